/** How long an upstream goes on working for a client that has left: before its first byte, and in the middle of a stream. */
import { request } from "undici";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../../emulators/openai.ts";
import { boundedResult, type Result } from "../../engine/result.ts";
import { quantile } from "../../report.ts";
import type { Asked } from "../raw-http.ts";
import { bearer, chatAt } from "../setting.ts";
import type { Lane } from "./table.ts";

/** What is promised: `DESIGN` of the gateway gives an abort fifty milliseconds. */
const promisedMs = 50;

/** One client after another leaves; each time is taken from the abort to the upstream's closed connection. */
export const leaving: Lane = async function* (setting) {
  const emulator = await startOpenAiEmulator({
    deltaDelayMs: 5,
    answer: () => "word ".repeat(1000),
  });
  const policy = await setting.policy();
  const upstreamUrl = emulator.baseUrl.replace(/\/v1$/, "");
  const gateway = await setting.openGateway({ policy, upstreamUrl });
  try {
    const key = bearer(policy.governedKey);
    const clients = setting.full(100, 5);
    const midStream = await leaveOften(clients, emulator, async (client) => {
      const asked = chatAt(gateway.url, key, { stream: true });
      const { body } = await ask(asked, client.signal);
      body.on("error", () => {});
      // Not by `for await`, which would leave already at its end.
      await body[Symbol.asyncIterator]().next();
    });
    yield measured("a client leaves in mid-stream: until its upstream is let go, p99", midStream);
    const beforeFirstByte = await leaveOften(clients, emulator, async (client) => {
      const before = emulator.requests.length;
      const asked = chatAt(gateway.url, key, { stream: true, model: "bench-silent" });
      ask(asked, client.signal).catch(() => {});
      while (emulator.requests.length === before) await tick();
    });
    yield measured("a client leaves before the first byte: the same, p99", beforeFirstByte);
  } finally {
    await gateway.stop();
    await emulator.close();
  }
};

async function leaveOften(
  clients: number,
  emulator: OpenAiEmulator,
  beginning: (client: AbortController) => Promise<void>,
): Promise<number[]> {
  const lagsMs: number[] = [];
  for (let i = 0; i < clients; i++) {
    const client = new AbortController();
    const before = emulator.aborts.length;
    await beginning(client);
    const leftAt = performance.now();
    client.abort();
    while (emulator.aborts.length === before) await tick();
    lagsMs.push((emulator.aborts.at(-1)?.at ?? Number.NaN) - leftAt);
  }
  return lagsMs.sort((a, b) => a - b);
}

function ask({ origin, path, headers, body }: Asked, signal: AbortSignal) {
  return request(origin + path, { method: "POST", headers, body, signal });
}

function measured(name: string, lagsMs: readonly number[]): Result {
  return boundedResult({ name, unit: "ms", ours: quantile(lagsMs, 0.99), bound: promisedMs });
}

const tick = () => new Promise((resolve) => setImmediate(resolve));
