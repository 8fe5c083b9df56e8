/** An administrator's regular expressions: RE2's, which take time linear in the text, and bounded in size besides. */
import { RE2JS } from "re2js";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { anyOf, type Detector, type Match } from "./detector.ts";

/** Instructions times characters that one pattern may take for one text: about a second. */
const patternWorkMax = 40_000_000;
/** Of all searches of one pattern in one text: each is linear, but after a match the next looks at the rest again. */
const patternMsMax = 2000;

/** @param pattern one that the registry took, and so compiles */
export function compilePattern(pattern: string): RE2JS {
  return RE2JS.compile(pattern);
}

export function patternsDetector(patterns: readonly string[], windowChars: number): Detector {
  return anyOf(patterns.map((pattern) => patternDetector(compilePattern(pattern), windowChars)));
}

/** Whether one of them matches all of the text. */
export function matchesWhole(patterns: readonly RE2JS[], text: string): boolean {
  return patterns.some((pattern) => {
    refuseLong(pattern, text);
    return pattern.matches(text);
  });
}

function patternDetector(pattern: RE2JS, windowChars: number): Detector {
  return {
    find(text, from) {
      refuseLong(pattern, text);
      const found: Match[] = [];
      const matcher = pattern.matcher(text);
      const endsAtMs = performance.now() + patternMsMax;
      let at = from;
      while (at <= text.length && matcher.find(at)) {
        const [start, end] = [matcher.start(), matcher.end()];
        // What matches nothing at all is found everywhere.
        if (end > start) found.push({ start, end, kind: "MATCH" });
        at = Math.max(end, start + 1);
        if (performance.now() > endsAtMs) throw tooLong();
      }
      return found;
    },
    openFrom: (text, from) => Math.max(from, text.length - windowChars),
  };
}

function refuseLong(pattern: RE2JS, text: string): void {
  if (pattern.programSize() * text.length > patternWorkMax) throw tooLong();
}

function tooLong(): HubError {
  return new HubError(
    "request_too_large",
    "A text is longer than this project's guardrails can look at. Send less of it at once.",
  );
}
