/** How long a user waits: from `npm start` to ready, cold and warm, and from a request to its first token. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { startServer } from "../support/server.ts";
import { type Measured, median, printResults } from "./report.ts";

const ROUNDS = 3;
const REQUESTS = 10;
const COLD_MS_MAX = 15_000;
const WARM_MS_MAX = 4_000;
const FIRST_TOKEN_MS_MAX = 300;

export async function run(): Promise<void> {
  const cold: number[] = [];
  const warm: number[] = [];
  const firstToken: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const dataDir = await mkdtemp(join(tmpdir(), "switchyard-bench-"));
    for (const starts of [cold, warm]) {
      const server = await startServer({ dataDir });
      starts.push(server.startMs);
      // The first request after a start counts: nothing is warmed up before it.
      for (let request = 0; request < REQUESTS; request++)
        firstToken.push(await timeToFirstToken(server.url, server.apiKey));
      await server.stop();
    }
    await rm(dataDir, { recursive: true, force: true });
    process.stderr.write(`\rround ${round + 1} of ${ROUNDS}`);
  }
  process.stderr.write("\n");
  printResults([
    limit("cold start to ready, slowest", Math.max(...cold), COLD_MS_MAX),
    limit("warm start to ready, slowest", Math.max(...warm), WARM_MS_MAX),
    limit("request to first streamed token, slowest", Math.max(...firstToken), FIRST_TOKEN_MS_MAX),
    limit("request to first streamed token, median", median(firstToken), FIRST_TOKEN_MS_MAX),
  ]);
}

/** The peer is the bound that we promise, so a ratio of one or more keeps the promise. */
function limit(name: string, ours: number, bound: number): Measured {
  return {
    bench: "start",
    case: name,
    unit: "ms",
    ours,
    peer: bound,
    ratio: bound / ours,
    target: 1,
  };
}

async function timeToFirstToken(url: string, apiKey: string): Promise<number> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
  const sentAt = performance.now();
  const stream = await client.chat.completions.create({
    model: "support-tiny",
    stream: true,
    max_tokens: 16,
    messages: [{ role: "user", content: "How do I reset my password?" }],
  });
  let first: number | undefined;
  for await (const chunk of stream) {
    if (first === undefined && chunk.choices[0]?.delta.content) first = performance.now() - sentAt;
  }
  if (first === undefined) throw new Error("the stream had no token");
  return first;
}
