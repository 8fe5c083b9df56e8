/** Exact match of adapters on the test rows of their tasks, all tasks in the same batches. */
import { readFileSync } from "node:fs";
import { createChatTemplate, type TemplateMessage } from "../models/templates/chat-template.ts";
import { createTokenizer } from "../models/tokenizer.ts";
import { type DemoRunner, generate } from "./demo-model.ts";

export type ScoredTask = {
  name: string;
  /** Chat rows, one a line, each ending with the right answer. */
  rowsPath: string;
  /** Of the adapter. */
  slot: number;
  tokensMax: number;
  isRight(answer: string, expected: string): boolean;
};

/**
 * @param rowsMax the first so many rows of each task
 * @returns for each task the share of right answers
 */
export async function scoreTasks(
  { runner, model }: DemoRunner,
  tasks: readonly ScoredTask[],
  rowsMax = Number.POSITIVE_INFINITY,
): Promise<Record<string, number>> {
  const tokenizer = createTokenizer(model.tokenizer);
  const template = createChatTemplate(model.chatTemplate ?? "", tokenizer.specialTokens);
  const cases = tasks.flatMap((task) =>
    readRows(task.rowsPath, rowsMax).map(({ question, answer }) => {
      const tokens = tokenizer.encode(template.render(question));
      return { task, answer, prompt: { tokens, slot: task.slot, tokensMax: task.tokensMax } };
    }),
  );
  // Neighbours ask for different adapters, so that every batch holds all.
  cases.sort((a, b) => a.prompt.tokens.length - b.prompt.tokens.length);
  const prompts = cases.map(({ prompt }) => prompt);
  const generated = await generate(runner, prompts, { ends: model.endTokenIds, rowsMax: 32 });
  const hits = cases.map(({ task, answer }, index) => {
    const tokens = generated[index]!.tokens.filter((token) => !model.endTokenIds.includes(token));
    return { name: task.name, hit: task.isRight(tokenizer.decode(tokens), answer) };
  });
  return Object.fromEntries(
    tasks.map(({ name }) => {
      const own = hits.filter((one) => one.name === name);
      return [name, own.filter(({ hit }) => hit).length / own.length];
    }),
  );
}

export function isSameText(answer: string, expected: string): boolean {
  return answer.trim() === expected.trim();
}

/** The same object, whatever the order of its keys. */
export function isSameJson(answer: string, expected: string): boolean {
  if (isSameText(answer, expected)) return true;
  try {
    return sorted(answer) === sorted(expected);
  } catch {
    return false;
  }
}

function sorted(text: string): string {
  return JSON.stringify(Object.entries(JSON.parse(text)).sort());
}

function readRows(path: string, rowsMax: number) {
  const lines = readFileSync(path, "utf8").trim().split("\n").slice(0, rowsMax);
  return lines.map((line) => {
    const { messages }: { messages: TemplateMessage[] } = JSON.parse(line);
    return { question: messages.slice(0, -1), answer: messages.at(-1)?.content ?? "" };
  });
}
