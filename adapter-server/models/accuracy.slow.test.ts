/** Scores the demo adapters on their test sets, all four in the same batches, in each weight format. */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type DemoRunner,
  demoAdapter,
  demoFolder,
  generate,
  openDemoRunner,
} from "../__fixtures__/demo-model.ts";
import type { ModelFormat } from "./import-model.ts";
import { createChatTemplate } from "./templates/chat-template.ts";
import { createTokenizer } from "./tokenizer.ts";

/** Slots in the order of this list, and the longest answers that the reference run allowed. */
const tasks = [
  { name: "banking-intent", tokensMax: 24, score: exactMatch },
  { name: "restaurant-slots", tokensMax: 64, score: exactMatch },
  { name: "support-triage", tokensMax: 48, score: exactMatch },
  { name: "tone-formal", tokensMax: 110, score: styleMatch },
];

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-accuracy-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.each<ModelFormat>(["f32", "int8", "int8-blocks", "int4", "int4-128"])(
  "%s weights",
  (format) => {
    test("every task scores within two points of the float32 reference", async () => {
      const demo = await openDemoRunner(format, cacheDir);
      for (const [index, { name }] of tasks.entries()) {
        demo.runner.loadSlot(index + 1, await demoAdapter(name, demo.model.shape));
      }
      const scores = await scoreTasks(demo);
      await demo.runner.close();
      for (const { name } of tasks) {
        console.warn(
          `${format} ${name}: ${scores[name]} (float32 reference ${referenceScore(name)})`,
        );
      }
      for (const { name } of tasks) {
        expect(scores[name], name).toBeGreaterThanOrEqual(referenceScore(name) - 0.02);
      }
    });
  },
);

async function scoreTasks({ runner, model }: DemoRunner): Promise<Record<string, number>> {
  const tokenizer = createTokenizer(model.tokenizer);
  const template = createChatTemplate(model.chatTemplate ?? "", tokenizer.specialTokens);
  const cases = tasks.flatMap(({ name, tokensMax, score }, task) =>
    testRows(name).map(({ question, answer }) => {
      const text = template.render([{ role: "user", content: question }]);
      return {
        name,
        score,
        answer,
        prompt: { tokens: tokenizer.encode(text), slot: task + 1, tokensMax },
      };
    }),
  );
  // Neighbours ask for different adapters, so that every batch holds all four.
  cases.sort((a, b) => a.prompt.tokens.length - b.prompt.tokens.length);
  const generated = await generate(
    runner,
    cases.map(({ prompt }) => prompt),
    { ends: model.endTokenIds, rowsMax: 32 },
  );
  const right: Record<string, number[]> = {};
  cases.forEach(({ name, score, answer }, index) => {
    const tokens = generated[index]!.tokens.filter((token) => !model.endTokenIds.includes(token));
    right[name] ??= [];
    right[name].push(score(tokenizer.decode(tokens), answer) ? 1 : 0);
  });
  return Object.fromEntries(
    Object.entries(right).map(([name, hits]) => [
      name,
      hits.reduce((sum, hit) => sum + hit, 0) / hits.length,
    ]),
  );
}

function testRows(name: string): { question: string; answer: string }[] {
  const text = readFileSync(join(demoFolder, "datasets", name, "test.jsonl"), "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).messages)
    .map(([question, answer]) => ({ question: question.content, answer: answer.content }));
}

function referenceScore(name: string): number {
  const { scores } = JSON.parse(readFileSync(join(demoFolder, "scores.json"), "utf8"));
  const score = scores[name][name];
  return score.style_match ?? score.exact_match;
}

function exactMatch(answer: string, expected: string): boolean {
  return answer.trim() === expected.trim();
}

function styleMatch(answer: string): boolean {
  return answer.startsWith("Dear customer,") && answer.trimEnd().endsWith("Kind regards, Support");
}
