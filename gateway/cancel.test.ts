/** Clients that leave: their upstream stops at once, and what was used is settled. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
let emulator: OpenAiEmulator;
let served: TestGateway;

beforeAll(async () => {
  emulator = await startOpenAiEmulator({
    deltaDelayMs: 20,
    answer: () => "word ".repeat(200),
  });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        testModel("counted", { tokenizer: "o200k_base" }),
        testModel("guessed"),
        testModel("silent", { upstreamModel: "silent!never" }),
        testModel("running-total", { upstream: "totals", tokenizer: "o200k_base" }),
      ],
    }),
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: emulator.baseUrl },
      { name: "totals", type: "openai", baseUrl: await listen(totals) },
    ],
  });
});

/** As vLLM with `continuous_usage_stats`: the first event tells the prompt's tokens; then it falls silent. */
const totals = createServer((_, response) => {
  const usage = { prompt_tokens: 7, completion_tokens: 0, total_tokens: 7 };
  const event = (content: string, more: object = {}) =>
    `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }], ...more })}\n\n`;
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(event("", { usage }) + event(" word".repeat(11)) + event(" last"));
});
async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

afterAll(async () => {
  await served.close();
  await emulator.close();
  totals.close();
});

function ask(model: string, stream: boolean, signal: AbortSignal) {
  return fetch(`${served.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify({ model, stream, messages: [{ role: "user", content: "count words" }] }),
    signal,
  });
}

/** Polls, because what is waited for happens on sockets of two servers. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

test("a client that leaves a stream stops its upstream, and pays for what was relayed", async () => {
  for (const model of ["counted", "guessed"]) {
    const settledBefore = served.accounts.settled.length;
    const abortsBefore = emulator.aborts.length;
    const client = new AbortController();
    const response = await ask(model, true, client.signal);
    const reader = response.body?.getReader();
    let received = "";
    while ((received.match(/word/g) ?? []).length < 5) {
      received += new TextDecoder().decode((await reader?.read())?.value);
    }
    client.abort();
    await until(() => emulator.aborts.length > abortsBefore);
    await served.accounts.untilSettled(settledBefore + 1);
    const settlement = served.accounts.settled.at(-1);
    expect(settlement).toMatchObject({
      outcome: "client_gone",
      httpStatus: 499,
      estimated: true,
      answered: { model },
    });
    // Some deltas were on their way when the client left; two hundred were not.
    expect(settlement?.usage?.output).toBeGreaterThanOrEqual(5);
    expect(settlement?.usage?.output).toBeLessThan(100);
    expect(settlement?.usage?.input).toBeGreaterThan(0);
  }
});

test("a running total that lags behind what was relayed does not make the rest free", async () => {
  const settledBefore = served.accounts.settled.length;
  const client = new AbortController();
  const response = await ask("running-total", true, client.signal);
  const reader = response.body?.getReader();
  let received = "";
  while (!received.includes("last")) {
    received += new TextDecoder().decode((await reader?.read())?.value);
  }
  client.abort();
  await served.accounts.untilSettled(settledBefore + 1);
  expect(served.accounts.settled.at(-1)).toMatchObject({
    outcome: "client_gone",
    estimated: true,
    usage: { input: 7, output: 12 },
  });
});

test("the time from a client's leaving to the upstream's is a few milliseconds", async () => {
  const lags: number[] = [];
  for (let i = 0; i < 5; i++) {
    const abortsBefore = emulator.aborts.length;
    const client = new AbortController();
    const response = await ask("guessed", true, client.signal);
    await response.body?.getReader().read();
    const leftAt = performance.now();
    client.abort();
    await until(() => emulator.aborts.length > abortsBefore);
    lags.push((emulator.aborts.at(-1)?.at ?? Number.POSITIVE_INFINITY) - leftAt);
  }
  // Ten times the promise, so that a busy machine does not fail it; a leak would take four seconds.
  expect(lags.sort((a, b) => a - b)[2]).toBeLessThan(500);
});

test("a client that leaves before the first byte stops its upstream and is charged for the input", async () => {
  for (const stream of [true, false]) {
    const settledBefore = served.accounts.settled.length;
    const abortsBefore = emulator.aborts.length;
    const requestsBefore = emulator.requests.length;
    const client = new AbortController();
    const asking = ask("silent", stream, client.signal).catch(() => "gone");
    await until(() => emulator.requests.length > requestsBefore);
    client.abort();
    expect(await asking).toBe("gone");
    await until(() => emulator.aborts.length > abortsBefore);
    await served.accounts.untilSettled(settledBefore + 1);
    expect(served.accounts.settled.at(-1)).toMatchObject({
      outcome: "client_gone",
      estimated: true,
      usage: { output: 0 },
    });
  }
});

test("a hundred clients that leave at once all settle, and nothing stays under way", async () => {
  const settledBefore = served.accounts.settled.length;
  const clients = Array.from({ length: 100 }, () => new AbortController());
  const reading = clients.map(async (client) => {
    const response = await ask("guessed", true, client.signal);
    await response.body?.getReader().read();
  });
  await Promise.all(reading);
  for (const client of clients) client.abort();
  await served.accounts.untilSettled(settledBefore + 100);
  expect(served.accounts.reserved).toHaveLength(served.accounts.settled.length);
  const metrics = await (await fetch(`${served.url}/metrics`)).text();
  expect(metrics).toContain("gateway_requests_in_flight 0");
});

test("in this process a signal does what a closed socket does", async () => {
  const settledBefore = served.accounts.settled.length;
  const client = new AbortController();
  const response = await served.gateway.app.fetch(
    new Request("http://gateway/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
      body: JSON.stringify({
        model: "guessed",
        stream: true,
        messages: [{ role: "user", content: "x" }],
      }),
      signal: client.signal,
    }),
  );
  const reader = response.body?.getReader();
  await reader?.read();
  client.abort();
  let rest = "";
  for (let next = await reader?.read(); !next?.done; next = await reader?.read()) {
    rest += new TextDecoder().decode(next?.value);
  }
  expect(rest).not.toContain("[DONE]");
  await served.accounts.untilSettled(settledBefore + 1);
  expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "client_gone" });
});
