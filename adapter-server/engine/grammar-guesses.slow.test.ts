/** Answers that follow a grammar are guessed ahead, and say what they say without: over the demo model and real masks. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type DemoRunner, demoGoldens, openDemoRunner } from "../__fixtures__/demo-model.ts";
import { serverLimits } from "../config.ts";
import { createTokenizer } from "../models/tokenizer.ts";
import { readStructuredOutput } from "../output/grammar/structured-output.ts";
import { toVocabulary } from "../output/grammar/vocabulary.ts";
import { EngineCore } from "./engine-core.ts";
import { GrammarMasks } from "./grammar-masks.ts";
import type { SequenceOutput } from "./messages.ts";
import type { SequenceRequest } from "./sequence.ts";

const limits = serverLimits.parse({ sequencesMax: 4 });
const schema = {
  type: "object",
  properties: {
    items: {
      type: "array",
      minItems: 40,
      items: {
        type: "object",
        properties: { name: { enum: ["pen", "paper"] }, weight: { type: "integer", maximum: 9 } },
        required: ["name", "weight"],
      },
    },
  },
  required: ["items"],
};
const grammar = readStructuredOutput({ guided_json: schema }, limits);
let cacheDir: string;
let demo: DemoRunner;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-guesses-"));
  demo = await openDemoRunner("f32", cacheDir);
});
afterAll(async () => {
  await demo?.runner.close();
  await rm(cacheDir, { recursive: true, force: true });
});

test.each([
  { temperature: 0 },
  { temperature: 1 },
  { temperature: 1, topP: 0.9, presencePenalty: 0.3 },
])("with %j guesses hold and change no token", async (wishes) => {
  const requests = [1, 2, 3].map(
    (id): SequenceRequest => ({
      ...{ id, grammar, tenant: "", maxTokens: 90, stopIds: demo.model.endTokenIds },
      prompt: demoGoldens("base").goldens[id]!.prompt_ids,
      sampling: { topP: 1, topK: 0, repetitionPenalty: 1, seed: 3, stream: id, ...wishes },
      logprobs: 2,
    }),
  );
  const plain = await decode(requests, 0);
  const guessed = await decode(requests, 16);
  expect(plain.stats.guessed).toBe(0);
  expect(guessed.stats.held).toBeGreaterThan(0);
  for (const { id } of requests) {
    expect(guessed.said.get(id)).toEqual(plain.said.get(id));
    const text = createTokenizer(demo.model.tokenizer).decode(plain.said.get(id) ?? []);
    expect(text).toMatch(/^\{"items": ?\[\{"name": ?"(pen|paper)", ?"weight": ?-?\d/);
  }
});

async function decode(requests: readonly SequenceRequest[], speculationTokensMax: number) {
  const { runner, model } = demo;
  const nowMs = () => performance.now();
  const vocabulary = toVocabulary(createTokenizer(model.tokenizer), model.dims.vocabSize);
  const { endTokenIds } = model;
  // However slow the machine is, no mask is late.
  const patient = { ...limits, grammarWaitMsMax: 10_000 };
  const masks = new GrammarMasks(
    { vocabulary, endTokenIds, limits: patient },
    model.dims.vocabSize,
    nowMs,
  );
  const said = new Map<number, number[]>();
  const ended = new Set<number>();
  let wake = () => {};
  const core = new EngineCore({
    ...{ runner, masks, nowMs, prefixCache: false },
    limits: { ...limits, speculationTokensMax },
    onWork: () => wake(),
    emit: (outputs: SequenceOutput[]) => {
      for (const { id, token, finish, error } of outputs) {
        if (error) throw new Error(error.message);
        if (token !== undefined) said.set(id, [...(said.get(id) ?? []), token]);
        if (finish) ended.add(id);
      }
    },
  });
  for (const request of requests) core.receive({ type: "add", request });
  while (ended.size < requests.length) {
    while (core.hasWork) {
      await core.turn();
      core.check();
    }
    if (ended.size === requests.length) break;
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
  const stats = core.stats().speculation;
  await masks.end();
  return { said, stats };
}
