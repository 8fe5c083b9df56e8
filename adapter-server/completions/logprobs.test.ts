/** Parallel lists of log-probabilities: what tokens are called there. */
import { expect, test } from "vitest";
import { TextLogprobsWriter } from "./logprobs.ts";

test("tokens that spell what every JavaScript object has are listed like any other", () => {
  const words = ["constructor", "toString", "__proto__", "a"];
  const bytesOf = (id: number) => new TextEncoder().encode(words[id] ?? "");
  const top = words.map((_, token) => ({ token, logprob: -token - 1 }));
  const { tokens, top_logprobs } = new TextLogprobsWriter({ bytesOf }, 4).write([
    { token: 0, logprob: -1, top },
  ]);
  expect(tokens).toEqual(["constructor"]);
  expect(Object.entries(top_logprobs[0] ?? {})).toEqual(words.map((word, id) => [word, -id - 1]));
});
