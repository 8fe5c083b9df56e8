/** How long an upstream goes on working for a client that has left: before its first byte, and in the middle of a stream. */
import { request } from "undici";
import type { OpenAiEmulator } from "../emulators/openai.ts";
import type { Target } from "./load.ts";
import { type Measured, quantile } from "./report.ts";

/** What is promised: `DESIGN` of the gateway gives an abort fifty milliseconds. */
const PROMISED_MS = 50;
const CLIENTS = 100;

/**
 * One client after another leaves; each time is taken from the abort to the upstream's closed connection.
 * @param models whose upstream is the emulator: one that answers slowly, and one that never does
 */
export async function measureLeaving(
  target: Target,
  emulator: OpenAiEmulator,
  models: { streaming: string; silent: string },
): Promise<Measured[]> {
  const midStream = await leaveOften(async (client) => {
    const { body } = await ask(target, models.streaming, client.signal);
    body.on("error", () => {});
    // Not by `for await`, which would leave already at its end.
    await body[Symbol.asyncIterator]().next();
  }, emulator);
  const beforeFirstByte = await leaveOften(async (client) => {
    const before = emulator.requests.length;
    ask(target, models.silent, client.signal).catch(() => {});
    while (emulator.requests.length === before) await tick();
  }, emulator);
  return [
    measured("a client leaves in mid-stream: until its upstream is let go, p99", midStream),
    measured("a client leaves before the first byte: the same, p99", beforeFirstByte),
  ];
}

async function leaveOften(
  beginning: (client: AbortController) => Promise<void>,
  emulator: OpenAiEmulator,
): Promise<number[]> {
  const lagsMs: number[] = [];
  for (let i = 0; i < CLIENTS; i++) {
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

function ask({ origin, path, headers }: Target, model: string, signal: AbortSignal) {
  const messages = [{ role: "user", content: "Count to a thousand." }];
  const body = JSON.stringify({ model, stream: true, messages });
  return request(origin + path, { method: "POST", headers, body, signal });
}

function measured(name: string, lagsMs: readonly number[]): Measured {
  const ours = quantile(lagsMs, 0.99);
  const peer = PROMISED_MS;
  return { bench: "gateway", case: name, unit: "ms", ours, peer, ratio: peer / ours, target: 1 };
}

const tick = () => new Promise((resolve) => setImmediate(resolve));
