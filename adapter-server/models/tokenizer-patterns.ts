/**
 * Which regular expressions of a tokenizer are run. They come with the checkpoint and meet the text of
 * clients, and one that backtracks without end would stall the server.
 */
import { HubError } from "../../sdk/protocol/errors.ts";

/**
 * Looks at every `Regex` of the steps around a tokenizer's model.
 * @param steps normalizer, pre-tokenizer, decoder; untrusted
 * @throws HubError `unsupported_model` that shows the pattern
 */
export function checkPatterns(steps: unknown, depth = 0): void {
  if (depth > depthMax) refuse("its steps nest too deeply");
  if (typeof steps !== "object" || steps === null) return;
  for (const [key, value] of Object.entries(steps)) {
    if (key === "Regex" && typeof value === "string" && mayRunAway(value)) {
      refuse(`its pattern '${value.slice(0, 80)}' may take exponential time`);
    }
    checkPatterns(value, depth + 1);
  }
}

/**
 * Whether a pattern has ways to match one text that grow exponentially, or with a high power, in its length:
 * a repeated group with choices in it, many repetitions in a row, or choices in a row that multiply to many. It is
 * told of patterns too whose choices happen to exclude each other; those of known tokenizers have none of it.
 */
export function mayRunAway(pattern: string): boolean {
  if (pattern.length > patternCharsMax) return true;
  const open = [newGroup()];
  for (let at = 0; at < pattern.length; ) {
    const group = open.at(-1)!;
    const character = pattern[at]!;
    let closed: Group | undefined;
    if (character === "(") {
      open.push(newGroup());
      at += /^\((\?(<?[=!]|[a-z-]*:|<[^>]*>))?/i.exec(pattern.slice(at, at + 64))?.[0].length ?? 1;
      continue;
    }
    if (character === "|") {
      group.hasChoice = true;
      group.repeats = 0;
      group.otherWays += group.ways;
      group.ways = 1;
      at++;
      continue;
    }
    if (character === ")") {
      closed = open.length > 1 ? open.pop() : undefined;
      at++;
    } else if (character === "[") at = endOfClass(pattern, at);
    else if (character === "\\")
      at += /^\\[pPu]\{[^}]*\}|^\\./su.exec(pattern.slice(at, at + 80))?.[0].length ?? 1;
    else at++;

    const [text = "", count] =
      /^(?:[*+?]|\{(\d*,?\d*)\})[?+]?/.exec(pattern.slice(at, at + 24)) ?? [];
    at += text.length;
    const outer = open.at(-1)!;
    const isExact = count !== undefined && !count.includes(",");
    const repeats = text !== "" && text[0] !== "?" && !(isExact && Number(count) <= 1);
    if (repeats && closed && (closed.hasChoice || closed.repeatsMax > 0)) return true;
    // Even a bounded number of times is a choice of how many.
    outer.hasChoice ||= (text !== "" && !isExact) || (closed?.hasChoice ?? false);
    outer.repeats += (repeats && !isExact ? 1 : 0) + (closed?.repeatsMax ?? 0);
    outer.repeatsMax = Math.max(outer.repeatsMax, outer.repeats);
    const ways = closed ? closed.otherWays + closed.ways : 1;
    outer.ways *= text[0] === "?" ? ways + 1 : ways;
    if (outer.repeats > repeatsInARowMax || outer.ways + outer.otherWays > waysMax) return true;
  }
  return false;
}

/** A group that is being read; `ways` are those to choose in its alternative so far, `otherWays` in those before. */
type Group = {
  hasChoice: boolean;
  repeats: number;
  repeatsMax: number;
  ways: number;
  otherWays: number;
};

function newGroup(): Group {
  return { hasChoice: false, repeats: 0, repeatsMax: 0, ways: 1, otherWays: 0 };
}

function endOfClass(pattern: string, start: number): number {
  let at = start + 1;
  while (at < pattern.length && pattern[at] !== "]") at += pattern[at] === "\\" ? 2 : 1;
  return at + 1;
}

function refuse(problem: string): never {
  throw new HubError("unsupported_model", `The model's tokenizer is not read: ${problem}.`);
}

const depthMax = 64;
const patternCharsMax = 4096;
const repeatsInARowMax = 2;
/** Known patterns have some twenty. */
const waysMax = 1000;
