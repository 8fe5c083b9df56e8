/** Whose fault it is that a request ends: the client's and the operator's never close an upstream to others. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
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
  testModel,
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
    testModel("well"),
    testModel("slow", { upstreamModel: "slow!slow-first-byte:150" }),
    testModel("silent", { upstreamModel: "silent!never" }),
    testModel("renamed", { upstreamModel: "renamed!status:404" }),
    testModel("unpaid", { upstreamModel: "unpaid!status:402" }),
    testModel("cut", { upstreamModel: "cut!cut:3" }),
  ],
  routes: [
    testRoute("auto", "silent", { fallbacks: ["well"] }),
    testRoute("broke", "unpaid", { fallbacks: ["well"] }),
  ],
});

let served: TestGateway;
let emulator: OpenAiEmulator;
afterEach(async () => {
  await served.close();
  await emulator.close();
});

async function start(options: Partial<TestGatewayOptions> = {}, deltaDelayMs = 0): Promise<void> {
  emulator = await startOpenAiEmulator({ deltaDelayMs });
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    ...options,
  });
}

const requestOf = (model: string, more: object = {}): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
  body: JSON.stringify({ model, messages: [{ role: "user", content: "hello there" }], ...more }),
});
const ask = (model: string, { body = {}, headers = {}, signal }: Asked = {}) => {
  const request = requestOf(model, body);
  return fetch(`${served.url}/v1/chat/completions`, {
    ...request,
    headers: { ...request.headers, ...headers },
    signal: signal ?? null,
  });
};
type Asked = { body?: object; headers?: Record<string, string>; signal?: AbortSignal };
const codeOf = async (response: Response) => ((await response.json()) as ErrorBody).error.code;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

test("deadlines too short for any model do not close an upstream to others", async () => {
  await start({ limits: { breakerFailures: 2 } });
  for (const header of ["x-stainless-timeout", "x-stainless-read-timeout"]) {
    for (let i = 0; i < 3; i++) {
      const response = await ask("slow", { headers: { [header]: "0.02" } });
      expect([response.status, await codeOf(response)]).toEqual([504, "upstream_timeout"]);
    }
  }
  expect((await ask("well")).status).toBe(200);
});

test("a deadline that passed is charged as a client that left, and begins no fallback", async () => {
  await start();
  const response = await ask("auto", { headers: { "x-stainless-timeout": "0.1" } });
  expect(response.status).toBe(504);
  expect(emulator.requests.map(({ body }) => body.model)).toEqual(["silent"]);
  expect(served.accounts.settled.at(-1)).toMatchObject({
    outcome: "client_gone",
    httpStatus: 504,
    errorCode: "upstream_timeout",
    answered: { model: "silent" },
    estimated: true,
  });
});

test("a client's deadline bounds the wait for an answer, not the length of a stream", async () => {
  await start({}, 40);
  const response = await ask("well", {
    body: { stream: true },
    headers: { "x-stainless-timeout": "0.2" },
  });
  expect((await response.text()).endsWith("data: [DONE]\n\n")).toBe(true);
});

test("who leaves while waiting for a connection is let go at once and owes nothing", async () => {
  await start({ limits: { connectionsPerUpstreamMax: 1 } });
  const first = new AbortController();
  const asking = ask("silent", { signal: first.signal }).catch(() => "gone");
  await until(() => emulator.requests.length === 1);

  const second = new AbortController();
  const waiting = ask("well", { signal: second.signal }).catch(() => "gone");
  await until(() => served.accounts.reserved.length === 2);
  second.abort();
  expect(await waiting).toBe("gone");
  await served.accounts.untilSettled(1);
  const settlement = served.accounts.settled.at(-1);
  expect(settlement).toMatchObject({ outcome: "client_gone", httpStatus: 499 });
  expect([settlement?.answered, settlement?.usage]).toEqual([undefined, undefined]);

  first.abort();
  expect(await asking).toBe("gone");
  await served.accounts.untilSettled(2);
  expect(served.accounts.settled.at(-1)).toMatchObject({ answered: { model: "silent" } });
  expect(emulator.requests).toHaveLength(1);
});

test("who is gone before anything is sent owes nothing", async () => {
  await start();
  const client = new AbortController();
  const reserve = served.accounts.reserve.bind(served.accounts);
  served.accounts.reserve = (request) => {
    client.abort();
    return reserve(request);
  };
  await served.gateway.app.fetch(
    new Request(`${served.url}/v1/chat/completions`, {
      ...requestOf("well"),
      signal: client.signal,
    }),
  );
  const [settlement] = served.accounts.settled;
  expect(settlement).toMatchObject({ outcome: "client_gone" });
  expect(settlement?.usage).toBeUndefined();
  expect(emulator.requests).toHaveLength(0);
});

test("an answer that breaks off was paid for, and is not asked for a second time", async () => {
  await start();
  expect((await ask("cut")).status).toBe(502);
  expect(emulator.requests).toHaveLength(1);
});

test("a body nested deeper than any program writes is refused, and is nobody else's trouble", async () => {
  await start({ limits: { breakerFailures: 2 } });
  const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
  for (let i = 0; i < 3; i++) {
    const request = requestOf("well", { extra: "HERE" });
    const response = await fetch(`${served.url}/v1/chat/completions`, {
      ...request,
      body: String(request.body).replace('"HERE"', deep),
    });
    expect([response.status, await codeOf(response)]).toEqual([400, "invalid_value"]);
  }
  expect((await ask("well")).status).toBe(200);
});

test("a model that its upstream does not know closes that upstream to no other model", async () => {
  await start({ limits: { breakerFailures: 2 } });
  for (let i = 0; i < 3; i++) {
    const response = await ask("renamed");
    expect([response.status, await codeOf(response)]).toEqual([502, "upstream_model_not_found"]);
    expect(response.headers.get("x-should-retry")).toBe("false");
  }
  expect((await ask("well")).status).toBe(200);
});

test("an upstream account that is empty is left for the next model, and not blamed on the client", async () => {
  await start();
  const response = await ask("broke");
  expect(response.status).toBe(200);
  expect(response.headers.get("x-switchyard-model")).toBe("well");
  expect(response.headers.get("x-switchyard-attempts")).toBe("2");
  expect((await ask("well")).headers.has("x-switchyard-attempts")).toBe(false);
});

test("streams that begin and break off close their upstream, as answers that fail do", async () => {
  await start({ limits: { breakerFailures: 3 } });
  for (let i = 0; i < 3; i++) {
    const response = await ask("cut", { body: { stream: true } });
    expect([response.status, await response.text()]).toEqual([
      200,
      expect.stringContaining("error"),
    ]);
  }
  const refused = await ask("well");
  expect([refused.status, await codeOf(refused)]).toEqual([503, "upstream_unavailable"]);
});

test("an upstream that only said it was waiting can still be fallen back from", async () => {
  const queue = createServer((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": PROCESSING\n\n");
    setTimeout(() => response.end('data: {"error":{"message":"no machine is free"}}\n\n'), 20);
  });
  await new Promise<void>((done) => queue.listen(0, "127.0.0.1", done));
  const { port } = queue.address() as AddressInfo;
  emulator = await startOpenAiEmulator();
  served = await startTestGateway({
    snapshot: testSnapshot({
      ...policy,
      models: [testModel("queued", { upstream: "queue" }), testModel("well")],
      routes: [testRoute("auto", "queued", { fallbacks: ["well"] })],
    }),
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: emulator.baseUrl },
      { name: "queue", type: "openai", baseUrl: `http://127.0.0.1:${port}/v1` },
    ],
  });
  const response = await ask("auto", { body: { stream: true } });
  expect(response.headers.get("x-switchyard-model")).toBe("well");
  expect((await response.text()).endsWith("data: [DONE]\n\n")).toBe(true);
  await new Promise((done) => queue.close(done));
});
