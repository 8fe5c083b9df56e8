/**
 * Prompt lookup on a task that copies from its prompt, fields of messages as JSON after a few examples: guesses
 * verified in a step, against one token a step. One sequence at a time, from its first token to its last.
 */
import { readFile } from "node:fs/promises";
import { serverLimits } from "../../../../adapter-server/config.ts";
import type { AdapterServer } from "../../../../adapter-server/server.ts";
import type { ChatMessage } from "../../../../sdk/protocol/chat.ts";
import { SseParser } from "../../../../sdk/protocol/sse.ts";
import { resultOf } from "../result.ts";
import { takeTurns } from "../rounds.ts";
import type { Lane } from "./table.ts";

const target = 1.5;
const examples = 6;
const questions = 12;
const newTokens = 128;

export const speculation: Lane = async function* (setting) {
  const [model] = setting.models.filter(({ size }) => size === "135M");
  if (!model) return;
  const { speculationTokensMax } = serverLimits.parse({});
  const guessing = await setting.openOurs(model, { speculationTokensMax });
  const plain = await setting.openOurs(model);
  try {
    setting.tell(`${model.name}, an extraction`);
    const conversations = await extraction();
    const texts: Record<"ours" | "plain", string[]> = { ours: [], plain: [] };
    const measure = async (lane: "ours" | "plain", server: AdapterServer) => {
      const answers = await answerAll(server, conversations);
      texts[lane] = answers.map(({ text }) => text);
      const sum = (of: "tokens" | "seconds") =>
        answers.reduce((total, answer) => total + answer[of], 0);
      return sum("tokens") / sum("seconds");
    };
    const figures = await takeTurns(
      [
        { name: "ours", measure: () => measure("ours", guessing.server) },
        { name: "plain", measure: () => measure("plain", plain.server) },
      ],
      setting.rounds(model),
    );
    const { guessed, held } = guessing.server.engine.stats().speculation;
    const changed = texts.plain.filter((text, index) => text !== texts.ours[index]).length;
    yield resultOf({
      name: `${model.name}: prompt lookup on an extraction, one sequence`,
      unit: "tokens/s",
      ours: figures.ours,
      peer: figures.plain,
      target,
      notes: [
        `${Math.round((100 * held) / Math.max(1, guessed))} % of the guesses held${model.isTrained ? "" : " (random weights: it says nothing)"}`,
        `${changed} of ${questions} answers differ: a last bit decides between names that are equally likely`,
      ],
    });
  } finally {
    await guessing.close();
    await plain.close();
  }
};

type Answer = {
  text: string;
  /** After the first, in the time since it came. */
  tokens: number;
  seconds: number;
};

async function answerAll(
  server: AdapterServer,
  conversations: readonly ChatMessage[][],
): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const messages of conversations) answers.push(await answer(server, messages));
  return answers;
}

async function answer({ app }: AdapterServer, messages: ChatMessage[]): Promise<Answer> {
  const body = JSON.stringify({
    model: "bench",
    messages,
    temperature: 0,
    max_tokens: newTokens,
    stream: true,
    stream_options: { include_usage: true },
  });
  const url = "http://localhost/v1/chat/completions";
  const response = await app.fetch(new Request(url, { method: "POST", body }));
  if (!response.body) throw new Error("an answer without a body");
  const startedAt = performance.now();
  const parser = new SseParser();
  let text = "";
  let tokens = 0;
  for await (const bytes of response.body) {
    for (const { data } of parser.push(bytes)) {
      if (data === "[DONE]") continue;
      const { choices, usage } = JSON.parse(data);
      text += choices[0]?.delta.content ?? "";
      if (usage) tokens = usage.completion_tokens - 1;
    }
  }
  return { text, tokens, seconds: (performance.now() - startedAt) / 1000 };
}

/** Questions of a dataset, each behind the same few that are answered. */
async function extraction(): Promise<ChatMessage[][]> {
  const rows = (await readFile(dataset, "utf8"))
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { messages: ChatMessage[] }).messages)
    .filter(([question, answered]) => length(question) > 100 && length(answered) > 30);
  const shown = rows.slice(0, examples).flat();
  return rows
    .slice(examples, examples + questions)
    .map(([question]) => [...shown, ...(question ? [question] : [])]);
}

function length(message: ChatMessage | undefined): number {
  return typeof message?.content === "string" ? message.content.length : 0;
}

const dataset = new URL(
  "../../../../deploy/demo-model/datasets/restaurant-slots/test.jsonl",
  import.meta.url,
);
