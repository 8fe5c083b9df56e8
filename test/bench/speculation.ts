/**
 * What guessing ahead gains: fields copied out of messages into JSON, one request at a time, with guesses and
 * without. `npm run bench -- speculation [MODEL]`, where MODEL is a folder or a GGUF file of an instructed model.
 * The demo model, when it is absent, copies nothing without an adapter: that shows what wrong guesses cost.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type AdapterServer, createAdapterServer } from "../../adapter-server/server.ts";
import type { ChatCompletion, ChatMessage } from "../../sdk/protocol/chat.ts";
import { type Measured, median, printResults } from "./report.ts";

const EXAMPLES = 6;
const QUESTIONS = 12;
const ROUNDS = 5;
const lanes = { guessing: 16, plain: 0 };
type Lane = keyof typeof lanes;

export async function run([model = demoModel]: readonly string[]): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
  const servers = {} as Record<Lane, AdapterServer>;
  try {
    for (const name of Object.keys(lanes) as Lane[]) {
      servers[name] = await createAdapterServer({
        model: { id: "bench", folder: model },
        format: "int8",
        limits: { speculationTokensMax: lanes[name] },
        dataDir,
        version: "bench",
        onFault: (message, cause) => console.error(message, cause),
      });
    }
    printResults([await measure(servers, basename(model))]);
  } finally {
    await Promise.all(Object.values(servers).map((server) => server.close()));
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function measure(servers: Record<Lane, AdapterServer>, model: string): Promise<Measured> {
  const conversations = await extraction();
  const perSecond: Record<Lane, number[]> = { guessing: [], plain: [] };
  const texts: Record<Lane, string[]> = { guessing: [], plain: [] };
  // Once ahead of time, so that prompts are cached and what is measured is the answers.
  for (const server of Object.values(servers)) await answers(server, conversations);
  for (let round = 0; round < ROUNDS; round++) {
    process.stderr.write(`\rround ${round + 1} of ${ROUNDS}`);
    const names = Object.keys(servers) as Lane[];
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const startedAt = performance.now();
      const answered = await answers(servers[name], conversations);
      perSecond[name].push((answered.tokens * 1000) / (performance.now() - startedAt));
      texts[name] = answered.texts;
    }
  }
  const changed = texts.plain.filter((text, index) => text !== texts.guessing[index]).length;
  const { rows, guessed, held } = servers.guessing.engine.stats().speculation;
  console.error(
    `\n${changed} of ${QUESTIONS} answers differ; of ${guessed} guesses in ${rows} steps ${held} held`,
  );
  return {
    bench: "speculation",
    case: `${model}: fields as JSON, one sequence`,
    unit: "tokens/s",
    ours: median(perSecond.guessing),
    peer: median(perSecond.plain),
    ratio: median(
      perSecond.guessing.map((value, round) => value / (perSecond.plain[round] ?? Number.NaN)),
    ),
    target: model === basename(demoModel) ? null : 1.5,
  };
}

async function answers({ app }: AdapterServer, conversations: readonly ChatMessage[][]) {
  const texts: string[] = [];
  let tokens = 0;
  for (const messages of conversations) {
    const body = JSON.stringify({ model: "bench", messages, temperature: 0, max_tokens: 128 });
    const request = new Request("http://bench/v1/chat/completions", { method: "POST", body });
    const { choices, usage } = (await (await app.fetch(request)).json()) as ChatCompletion;
    texts.push(choices[0]?.message.content ?? "");
    tokens += usage.completion_tokens;
  }
  return { texts, tokens };
}

/** Questions of a dataset, each behind the same few that are answered. */
async function extraction(): Promise<ChatMessage[][]> {
  const text = await readFile(dataset, "utf8");
  const rows = text
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { messages: ChatMessage[] }).messages)
    .filter(([question, answer]) => length(question) > 100 && length(answer) > 30);
  const examples = rows.slice(0, EXAMPLES).flat();
  return rows
    .slice(EXAMPLES, EXAMPLES + QUESTIONS)
    .map(([question]) => [...examples, ...(question ? [question] : [])]);
}

function length(message: ChatMessage | undefined): number {
  return typeof message?.content === "string" ? message.content.length : 0;
}

const demo = new URL("../../deploy/demo-model/", import.meta.url);
const demoModel = fileURLToPath(new URL("base", demo));
const dataset = new URL("datasets/restaurant-slots/test.jsonl", demo);
