/** Which tokens a row chooses, with guesses and without. */
import { expect, test } from "vitest";
import { type Chooser, computeStep } from "./step.ts";
import type { StepRow } from "./types.ts";

/** The likeliest token; logits that are not numbers allow no choice. */
const likeliest: Chooser = {
  prepare: async () => {},
  choose: (_id, logits) => {
    if (logits.some(Number.isNaN)) throw new Error("no choice");
    return { token: logits.indexOf(Math.max(...logits)) };
  },
  score: (_id, logits, position) => ({
    ...{ token: position, rank: 1, top: [] },
    logprob: logits.indexOf(Math.max(...logits)),
  }),
};
const saying = (token: number) =>
  Float32Array.from({ length: 5 }, (_, id) => (id === token ? 1 : 0));
const nothing = new Float32Array(5).fill(Number.NaN);

function compute(tokens: number[], logits: Float32Array[], chooser = likeliest) {
  const row: StepRow = {
    ...{ sequenceId: 1, tokens, position: 7, blocks: [], slot: 0 },
    samples: logits.length,
  };
  return computeStep({ run: async () => logits }, { decode: [row], prefill: [] }, chooser);
}

test("guesses that are what the model says give a token each, and one more", async () => {
  const [outcome] = await compute([9, 1, 2], [saying(1), saying(2), saying(3)]);
  expect(outcome).toMatchObject({ chosen: [{ token: 1 }, { token: 2 }, { token: 3 }] });
});

test("behind the first guess that is not, nothing is chosen", async () => {
  const [outcome] = await compute([9, 1, 2], [saying(1), saying(4), saying(3)]);
  expect(outcome).toMatchObject({ chosen: [{ token: 1 }, { token: 4 }] });
});

test("each choice knows those before it", async () => {
  const heard: number[][] = [];
  const choose: Chooser["choose"] = (id, logits, said) => {
    heard.push([...said]);
    return likeliest.choose(id, logits, said);
  };
  const chooser = { ...likeliest, choose };
  await compute([9, 1, 2], [saying(1), saying(2), saying(3)], chooser);
  expect(heard).toEqual([[], [1], [1, 2]]);
});

test("a row fails where its first token cannot be chosen, and only there", async () => {
  const [failed] = await compute([9, 1], [nothing, saying(2)]);
  expect(failed?.type).toBe("failed");
  const [outcome] = await compute([9, 1], [saying(1), nothing]);
  expect(outcome).toMatchObject({ type: "computed", chosen: [{ token: 1 }] });
});

test("a row that cannot tell its token yet is computed, chooses nothing, and nobody forks from it", async () => {
  const row: StepRow = {
    ...{ sequenceId: 1, tokens: [5], position: 7, blocks: [], slot: 0 },
    ...{ samples: 1, forks: [2] },
  };
  const chooser: Chooser = { ...likeliest, choose: () => undefined };
  const plan = { decode: [], prefill: [row] };
  const outcome = await computeStep({ run: async () => [saying(1)] }, plan, chooser);
  expect(outcome).toEqual([{ type: "computed", row, chosen: [], scores: [] }]);
});

test("a chunk from which nothing is sampled chooses nothing", async () => {
  const [outcome] = await compute([1, 2, 3], []);
  expect(outcome).toMatchObject({ type: "computed", chosen: [] });
});

test("of a prompt's chunk the first logits score what follows, and the last one chooses", async () => {
  const row: StepRow = {
    ...{ sequenceId: 1, tokens: [5, 6, 7], position: 10, blocks: [], slot: 0 },
    ...{ samples: 3, scores: 2 },
  };
  const logits = [saying(1), saying(2), saying(3)];
  const plan = { decode: [], prefill: [row] };
  const [outcome] = await computeStep({ run: async () => logits }, plan, likeliest);
  expect(outcome).toMatchObject({
    chosen: [{ token: 3 }],
    scores: [
      { token: 10, logprob: 1 },
      { token: 11, logprob: 2 },
    ],
  });
});
