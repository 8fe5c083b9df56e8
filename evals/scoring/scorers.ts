/** The scorers: each compares an answer with its row's reference and says right or wrong. */
import { isDeepStrictEqual } from "node:util";
import type { Scorer } from "../../sdk/protocol/admin.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { openRegexMatcher } from "./regex-matcher.ts";

/** A scorer at work. It throws when it cannot judge, which makes the row errored, never wrong. */
export type Judge = {
  isCorrect(answer: string, reference: string): Promise<boolean>;
  /** Why this reference can match no answer, or `undefined` when it is fit for the scorer. */
  refuses(reference: string): string | undefined;
  close(): Promise<void>;
};

/** @throws HubError `invalid_value` when a pattern is no regular expression */
export function openJudge(scorer: Scorer, options: { matchMsMax: number }): Judge {
  switch (scorer.type) {
    case "exact":
      return plainJudge((answer, reference) => answer.trim() === reference.trim());
    case "contains":
      return plainJudge(
        (answer, reference) => answer.includes(reference.trim()),
        (reference) =>
          reference.trim() === "" ? "an empty reference is contained in any answer" : undefined,
      );
    case "json":
      return plainJudge(sameJson, (reference) =>
        parseJson(reference) === undefined ? "the reference is not JSON" : undefined,
      );
    case "regex": {
      checkPattern(scorer.pattern);
      const matcher = openRegexMatcher({ pattern: scorer.pattern, ...options });
      return {
        isCorrect: (answer) => matcher.matches(answer),
        refuses: () => undefined,
        close: () => matcher.close(),
      };
    }
    default:
      return scorer satisfies never;
  }
}

/** The scorer in one word, with its pattern where it has one, as measurements name it. */
export function scorerName(scorer: Scorer): string {
  return scorer.type === "regex" ? `regex:${scorer.pattern}` : scorer.type;
}

/** @throws HubError `invalid_value` when the text is no regular expression */
function checkPattern(pattern: string): void {
  try {
    new RegExp(pattern, "u");
  } catch (cause) {
    throw new HubError(
      "invalid_value",
      `The pattern is not a regular expression of JavaScript: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { param: "scorer.pattern", cause },
    );
  }
}

function plainJudge(
  isCorrect: (answer: string, reference: string) => boolean,
  refuses: Judge["refuses"] = () => undefined,
): Judge {
  return {
    isCorrect: async (answer, reference) => isCorrect(answer, reference),
    refuses,
    close: async () => {},
  };
}

/** Equal as data: white space and the order of keys do not count. What is not JSON is wrong. */
function sameJson(answer: string, reference: string): boolean {
  const [parsed, expected] = [parseJson(answer), parseJson(reference)];
  return parsed !== undefined && expected !== undefined && isDeepStrictEqual(parsed, expected);
}

/** `undefined` for text that is not JSON; `null` is JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
