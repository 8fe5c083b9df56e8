/** Upstreams that are ill, limits that are near, policy that is missing: what the gateway does about it. */

import { createServer as createHttp } from "node:http";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { ErrorBody } from "../sdk/protocol/errors.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../test/emulators/openai.ts";
import {
  startTestGateway,
  type TestGateway,
  type TestGatewayOptions,
} from "../test/support/gateway.ts";
import {
  testKey,
  testMeasurement,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../test/support/policy.ts";

const acme = testProject("acme");
const apiKey = "sk-sy-key-of-the-acme-project";
const policy = testSnapshot({
  projects: [acme],
  keys: [testKey(apiKey, { projectId: acme.id })],
  models: [
    testModel("well", { upstream: "good" }),
    testModel("counted", { upstream: "good", tokenizer: "o200k_base", contextLength: 1000 }),
    testModel("ill", { upstream: "bad", upstreamModel: "ill!status:500" }),
    testModel("mended", { upstream: "bad" }),
    testModel("slow", { upstream: "good", upstreamModel: "slow!slow-first-byte:150" }),
  ],
  routes: [
    testRoute("auto", "ill", {
      fallbacks: ["well"],
      tasks: [
        {
          task: "triage",
          rules: [{ startsWith: "Triage:" }],
          candidates: ["counted", "well"],
          qualityFloor: 0.9,
        },
      ],
    }),
  ],
  prices: testPrices("well", { input: "0.001", output: "0.001" }),
  measurements: [
    testMeasurement({ projectId: acme.id, task: "triage", model: "counted", lower: 0.8 }),
    testMeasurement({ projectId: acme.id, task: "triage", model: "well", lower: 0.92 }),
  ],
});

let served: TestGateway;
let emulator: OpenAiEmulator;
const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function start(options: Partial<TestGatewayOptions> = {}): Promise<void> {
  emulator = await startOpenAiEmulator();
  cleanUp.push(() => emulator.close());
  served = await startTestGateway({
    snapshot: policy,
    upstreams: ["good", "bad"].map((name) => ({
      name,
      type: "openai" as const,
      baseUrl: emulator.baseUrl,
    })),
    ...options,
  });
  cleanUp.push(() => served.close());
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(served.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}`, ...headers },
    body: JSON.stringify(body),
  });
const ask = (model: string, more: Record<string, unknown> = {}, headers = {}) =>
  post(
    "/v1/chat/completions",
    { model, messages: [{ role: "user", content: "hello there" }], ...more },
    headers,
  );
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;
const callsTo = (model: string) =>
  emulator.requests.filter(({ body }) => body.model === model).length;

test("an upstream that keeps failing is left alone for a while, then tried with one call", async () => {
  let skewMs = 0;
  await start({
    now: () => Date.now() + skewMs,
    limits: { breakerFailures: 3, breakerOpenMs: 3_600_000, breakerOpenMsMax: 3_600_000 },
  });
  for (let i = 0; i < 3; i++) expect((await ask("ill")).status).toBe(502);
  const refused = await ask("ill");
  expect([refused.status, (await errorOf(refused)).code]).toEqual([503, "upstream_unavailable"]);
  expect(Number(refused.headers.get("retry-after-ms"))).toBeGreaterThan(0);
  expect(callsTo("ill")).toBe(3);
  // A route takes its fallback without asking; the record says why.
  expect((await ask("auto")).headers.get("x-switchyard-model")).toBe("well");
  expect(callsTo("ill")).toBe(3);
  const { decision } = served.accounts.settled.at(-1) as { decision: { considered: unknown[] } };
  expect(decision.considered).toContainEqual(
    expect.objectContaining({ model: "ill", reason: "upstream_unhealthy" }),
  );
  expect(await (await fetch(`${served.url}/metrics`)).text()).toContain(
    'gateway_upstream_breaker_open{upstream="bad"} 1',
  );

  skewMs = 3_600_000;
  expect((await ask("mended")).status).toBe(200);
  expect((await ask("mended")).status).toBe(200);
});

test("a request that is wrong says nothing about its upstream's health", async () => {
  const snapshot = {
    ...policy,
    models: [testModel("wrong", { upstream: "good", upstreamModel: "wrong!status:400" })],
  };
  await start({ snapshot, limits: { breakerFailures: 2 } });
  for (let i = 0; i < 5; i++) expect((await ask("wrong")).status).toBe(400);
});

test("a request that is refused before it is sent says nothing about its upstream's health", async () => {
  let skewMs = 0;
  await start({
    now: () => Date.now() + skewMs,
    limits: { breakerFailures: 2, breakerOpenMs: 1000, breakerOpenMsMax: 3_600_000 },
  });
  for (let i = 0; i < 2; i++) expect((await ask("ill")).status).toBe(502);
  skewMs = 1000;
  const refused = await post("/v1/messages", {
    model: "ill",
    max_tokens: 9,
    messages: [{ role: "user", content: "Hi" }],
    container: "c",
  });
  expect(refused.status).toBe(400);
  // It is still to be found out whether the upstream is well: one failure is enough.
  expect((await ask("ill")).status).toBe(502);
  expect((await ask("ill")).status).toBe(503);
});

test("what is refused is counted, whatever was asked for", async () => {
  await start();
  const paths = ["chat/completions", "completions", "embeddings", "responses", "messages"];
  for (const path of paths) {
    const init = { method: "POST", body: "{}" };
    expect((await fetch(`${served.url}/v1/${path}`, init)).status).toBe(401);
  }
  // This gateway keeps nothing, so there is nothing to be asked for.
  expect((await fetch(`${served.url}/v1/responses/resp_1`)).status).toBe(404);
  expect(await (await fetch(`${served.url}/metrics`)).text()).toMatch(
    new RegExp(
      `gateway_requests_total\\{[^}]*"refused"[^}]*"missing_api_key"[^}]*\\} ${paths.length}\n`,
    ),
  );
});

test("a kept connection that the upstream had closed is replaced, once", async () => {
  let connections = 0;
  const body = JSON.stringify({
    choices: [{ index: 0, message: { role: "assistant", content: "ok" }, finish_reason: "stop" }],
  });
  // Answers the first request of a connection; whatever comes next on it meets a reset.
  const flaky = createServer((socket) => {
    connections++;
    let answered = false;
    socket.on("error", () => {});
    socket.on("data", () => {
      if (answered) return socket.resetAndDestroy();
      answered = true;
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });
  });
  await new Promise<void>((done) => flaky.listen(0, "127.0.0.1", done));
  cleanUp.push(() => new Promise((done) => flaky.close(done)));
  const { port } = flaky.address() as AddressInfo;
  await start({
    upstreams: [{ name: "good", type: "openai", baseUrl: `http://127.0.0.1:${port}/v1` }],
  });
  for (let i = 0; i < 3; i++) expect((await ask("well")).status).toBe(200);
  expect(connections).toBe(3);
});

test("an upstream that nobody listens at is told at once", async () => {
  await start({
    upstreams: [{ name: "good", type: "openai", baseUrl: "http://127.0.0.1:9/v1" }],
  });
  const response = await ask("well");
  expect([response.status, (await errorOf(response)).message]).toEqual([
    502,
    expect.stringContaining("ECONNREFUSED"),
  ]);
  expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
});

test("an upstream whose credential is not set is told by the variable's name", async () => {
  await start({
    upstreams: [
      { name: "good", type: "openai", baseUrl: "http://127.0.0.1:9/v1", apiKeyEnv: "GOOD_KEY" },
    ],
  });
  const error = await errorOf(await ask("well"));
  expect([error.code, error.message]).toEqual([
    "upstream_unavailable",
    expect.stringContaining("GOOD_KEY"),
  ]);
});

test("what is reserved is the body's bytes, and counted exactly only when that is too much", async () => {
  await start();
  const messages = [{ role: "user", content: "one two three four five six seven eight " }];
  await ask("counted", { messages, max_tokens: 20 });
  expect(served.accounts.reserved.at(-1)).toMatchObject({ outputTokensMax: 20 });
  const bound = served.accounts.reserved.at(-1)?.inputTokens ?? 0;
  expect(bound).toBeGreaterThan(80);

  served.accounts.tokensMax = 60;
  expect((await ask("counted", { messages, max_tokens: 20 })).status).toBe(200);
  expect(served.accounts.reserved.at(-1)?.inputTokens).toBeLessThan(40);

  served.accounts.tokensMax = 25;
  const refused = await ask("counted", { messages, max_tokens: 20 });
  expect([refused.status, (await errorOf(refused)).code]).toEqual([429, "rate_limit_exceeded"]);
});

test("n choices may each use the most that one may", async () => {
  await start();
  await ask("well", { max_completion_tokens: 7, n: 3 });
  expect(served.accounts.reserved.at(-1)?.outputTokensMax).toBe(21);
});

test("a request that cannot fit is refused on an exact count, before it is sent", async () => {
  await start();
  const long = { messages: [{ role: "user", content: "word ".repeat(1100) }] };
  const response = await ask("counted", long);
  expect([response.status, (await errorOf(response)).code]).toEqual([
    400,
    "context_length_exceeded",
  ]);
  const fitting = { messages: [{ role: "user", content: "word ".repeat(900) }] };
  expect((await ask("counted", fitting)).status).toBe(200);
  expect(callsTo("counted")).toBe(1);
});

test("explain shows the plan and sends nothing", async () => {
  await start();
  const response = await post("/api/routes/explain", {
    model: "auto",
    messages: [{ role: "user", content: "Triage: my card" }],
  });
  expect(await response.json()).toMatchObject({
    requested: "auto",
    route: "auto",
    task: "triage",
    classifiedBy: "rule",
    qualityFloor: 0.9,
    attempts: ["well", "ill"],
    considered: [
      { model: "well", role: "candidate", verdict: "planned", expectedCostUsd: "0.11" },
      { model: "counted", verdict: "rejected", reason: "below_quality_floor" },
      { model: "ill", role: "default", verdict: "planned" },
      { model: "well", role: "fallback", verdict: "planned" },
    ],
  });
  const told = await post("/api/routes/explain", {
    model: "auto",
    messages: [{ role: "user", content: "x" }],
    task: "triage",
  });
  expect(await told.json()).toMatchObject({ task: "triage", classifiedBy: "header" });
  expect(emulator.requests).toHaveLength(0);
});

test("what explain shows is what a request does, and what its settlement keeps", async () => {
  await start();
  const body = { model: "auto", messages: [{ role: "user", content: "Triage: my card" }] };
  const explained = (await (await post("/api/routes/explain", body)).json()) as object;
  const response = await post("/v1/chat/completions", body);
  expect(response.headers.get("x-switchyard-task")).toBe("triage");
  expect(response.headers.get("x-switchyard-route")).toBe("auto");
  expect(served.accounts.settled.at(-1)?.decision).toEqual({
    ...explained,
    tried: [
      {
        ...{ model: "well", upstream: "good", ms: expect.any(Number) },
        ...{ sentMs: expect.any(Number), headMs: expect.any(Number) },
      },
    ],
  });
});

test("a client's own deadline ends the upstream's work", async () => {
  await start();
  const response = await ask("slow", {}, { "x-stainless-timeout": "0.05" });
  expect([response.status, (await errorOf(response)).code]).toEqual([504, "upstream_timeout"]);
});

test("a silent stream is kept open by comments, which clients ignore", async () => {
  emulator = await startOpenAiEmulator({ deltaDelayMs: 60 });
  cleanUp.push(() => emulator.close());
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "good", type: "openai", baseUrl: emulator.baseUrl }],
    limits: { keepAliveMs: 20 },
  });
  cleanUp.push(() => served.close());
  const text = await (await ask("well", { stream: true })).text();
  expect(text).toContain(": keep-alive\n\n");
  expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  for (const frame of text.trim().split("\n\n")) expect(frame).toMatch(/^(data: |: keep-alive$)/);
});

test("before there is any policy nothing is ready, and clients are told to wait", async () => {
  await start();
  await served.close();
  cleanUp.pop();
  const { registry } = served;
  registry.down = true;
  const { createGateway } = await import("./gateway.ts");
  const { testAccounts } = await import("../test/support/gateway.ts");
  const { pino } = await import("pino");
  const gateway = await createGateway({
    upstreams: [],
    registry,
    operatorKey: "operator-key-of-the-tests",
    accounts: testAccounts().create,
    logger: pino({ level: "silent" }),
  });
  await gateway.start();
  const ready = await gateway.app.fetch(new Request("http://gateway/readyz"));
  expect([ready.status, ready.headers.get("retry-after")]).toEqual([503, "1"]);
  expect((await gateway.app.fetch(new Request("http://gateway/healthz"))).status).toBe(200);
  registry.down = false;
  await gateway.refresh();
  expect((await gateway.app.fetch(new Request("http://gateway/readyz"))).status).toBe(200);
  await gateway.stop();
});

test("a stop waits for streams under way and refuses what comes", async () => {
  emulator = await startOpenAiEmulator({ deltaDelayMs: 20 });
  cleanUp.push(() => emulator.close());
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "good", type: "openai", baseUrl: emulator.baseUrl }],
  });
  cleanUp.push(() => served.close());
  const response = await ask("well", { stream: true });
  const stopping = served.gateway.stop();
  const refused = await ask("well");
  expect([refused.status, (await errorOf(refused)).code]).toEqual([503, "shutting_down"]);
  expect(await response.text()).toContain("[DONE]");
  await stopping;
  expect(served.accounts.settled).toHaveLength(1);
});

test("the log says what happened and holds neither keys nor prompts", async () => {
  await start();
  await ask("well", { messages: [{ role: "user", content: "my secret diagnosis" }] });
  await ask("well", {}, { authorization: "Bearer sk-sy-wrong-key-entirely" });
  const log = JSON.stringify(served.log);
  expect(log).toContain('"outcome":"ok"');
  expect(log).toContain('"code":"invalid_api_key"');
  expect(log).not.toContain("diagnosis");
  expect(log).not.toContain(apiKey);
  expect(log).not.toContain("wrong-key-entirely");
});

test("what an upstream quotes of a prompt reaches its client, and neither log nor ledger", async () => {
  await start({ upstreams: [{ name: "good", type: "openai", baseUrl: await quotingUpstream() }] });
  for (const stream of [false, true]) {
    const messages = [{ role: "user", content: "my secret diagnosis" }];
    const response = await ask("well", { messages, stream });
    expect(await response.text()).toContain("secret diagnosis");
  }
  expect(served.accounts.settled).toHaveLength(2);
  const kept = JSON.stringify([served.log, served.accounts.settled]);
  expect(kept).toContain("with status 422");
  expect(kept).toContain("with an error");
  expect(kept).not.toContain("diagnosis");
});

/** As servers do whose validator tells its input: in the body of a 422, or in the middle of a stream. */
async function quotingUpstream(): Promise<string> {
  const server = createHttp(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const error = JSON.stringify({ error: { message: `Invalid input: ${body}` } });
    if (!body.includes('"stream":true')) {
      response.writeHead(422, { "content-type": "application/json" }).end(error);
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n');
    response.end(`data: ${error}\n\n`);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  cleanUp.push(() => new Promise((done) => server.close(done)));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

test("connections to an upstream are used again, after streams too", async () => {
  await start();
  const ports = new Set<unknown>();
  for (let i = 0; i < 6; i++) {
    await (await ask("well", { stream: i % 2 === 0 })).text();
    ports.add(emulator.requests.at(-1)?.port);
  }
  expect(ports.size).toBe(1);
});

test("more requests at one time than are allowed are refused, and not queued", async () => {
  emulator = await startOpenAiEmulator({ deltaDelayMs: 20 });
  cleanUp.push(() => emulator.close());
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "good", type: "openai", baseUrl: emulator.baseUrl }],
    limits: { requestsInFlightMax: 2 },
  });
  cleanUp.push(() => served.close());
  const streams = await Promise.all([ask("well", { stream: true }), ask("well", { stream: true })]);
  const refused = await ask("well");
  expect([refused.status, (await errorOf(refused)).code]).toEqual([503, "server_is_overloaded"]);
  await Promise.all(streams.map((response) => response.text()));
  expect((await ask("well")).status).toBe(200);
});
