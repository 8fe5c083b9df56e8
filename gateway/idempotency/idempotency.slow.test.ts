/** Requests that are sent again: one answer, one bill, over a real database and two gateways that share it. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { ErrorBody } from "../../sdk/protocol/errors.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import {
  startTestGateway,
  type TestGateway,
  type TestGatewayOptions,
} from "../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../test/support/policy.ts";
import { migrateLedger } from "../ledger/database.ts";
import { Idempotency } from "./idempotency.ts";
import { type IdempotencyStoreOptions, openIdempotencyStore } from "./store.ts";

const acme = testProject("acme");
const other = testProject("other");
const apiKey = "sk-sy-key-of-the-acme-project";
const othersKey = "sk-sy-key-of-the-other-project";
const snapshot = testSnapshot({
  projects: [acme, other],
  keys: [testKey(apiKey, { projectId: acme.id }), testKey(othersKey, { projectId: other.id })],
  models: [testModel("m"), testModel("ill"), testModel("cut"), testModel("long")],
});

/** Counts its answers, and gives each when it is let go. */
let asked = 0;
let gate: Promise<void> = Promise.resolve();
const upstream = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", async () => {
    const { model, stream } = JSON.parse(Buffer.concat(chunks).toString());
    const content = `answer ${++asked}${model === "long" ? "x".repeat(5000) : ""}`;
    await gate;
    if (model === "ill") return response.writeHead(500).end("{}");
    const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
    const choice = (more: object) => ({ choices: [{ index: 0, finish_reason: null, ...more }] });
    if (!stream) {
      const whole = { message: { role: "assistant", content }, finish_reason: "stop" };
      response.writeHead(200, { "content-type": "application/json" });
      return response.end(JSON.stringify({ ...choice(whole), usage }));
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`data: ${JSON.stringify(choice({ delta: { content } }))}\n\n`);
    if (model === "cut") return setImmediate(() => response.destroy());
    const last = choice({ delta: {}, finish_reason: "stop" });
    response.end(`data: ${JSON.stringify({ ...last, usage })}\n\ndata: [DONE]\n\n`);
  });
});

let database: TestDatabase;
const cleanUp: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  database = await openTestDatabase();
  await migrateLedger(database.sql);
  await new Promise<void>((done) => upstream.listen(0, "127.0.0.1", done));
});
afterEach(async () => {
  gate = Promise.resolve();
  for (const close of cleanUp.splice(0).reverse()) await close();
});
afterAll(async () => {
  upstream.closeAllConnections();
  upstream.close();
  await database.close();
});

const storeOptions = {
  retentionMs: 60_000,
  leaseMs: 30_000,
  answersMax: 100,
  timeoutMs: 5_000,
};
const openStore = (more: Partial<IdempotencyStoreOptions> = {}) =>
  openIdempotencyStore({ ...storeOptions, sql: database.sql, ...more });

async function start(
  limits: TestGatewayOptions["limits"] = {},
  store: Partial<IdempotencyStoreOptions> = {},
): Promise<TestGateway> {
  const { port } = upstream.address() as AddressInfo;
  const served = await startTestGateway({
    snapshot,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: `http://127.0.0.1:${port}/v1` }],
    idempotency: openStore(store),
    limits,
  });
  cleanUp.push(() => served.close());
  return served;
}

let keys = 0;
const newKey = () => `order-${++keys}`;

type Asked = { key?: string; body?: object; as?: string; signal?: AbortSignal };
const ask = (served: TestGateway, { key, body, as = apiKey, signal }: Asked) =>
  fetch(`${served.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${as}`,
      ...(key !== undefined && { "idempotency-key": key }),
    },
    body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "Hi" }], ...body }),
    signal: signal ?? null,
  });
const codeOf = async (response: Response) => ((await response.json()) as ErrorBody).error.code;

/** Lets the upstream's answers wait until the returned function is called. */
function closeGate(): () => void {
  let open = () => {};
  gate = new Promise((resolve) => {
    open = resolve;
  });
  return open;
}

test.each([false, true])(
  "the same key and body are answered once and billed once, streamed: %s",
  async (stream) => {
    const served = await start();
    const before = asked;
    const key = newKey();
    const first = await ask(served, { key, body: { stream } });
    const text = await first.text();
    const again = await ask(served, { key, body: { stream } });
    expect(await again.text()).toBe(text);
    expect(again.status).toBe(200);
    expect(again.headers.get("content-type")).toBe(first.headers.get("content-type"));
    expect(again.headers.get("x-switchyard-model")).toBe("m");
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(again.headers.get("x-switchyard-replay-of")).toBe(first.headers.get("x-request-id"));
    expect(first.headers.has("idempotent-replayed")).toBe(false);
    expect(asked).toBe(before + 1);
    expect(served.accounts.settled).toHaveLength(1);
    expect(served.accounts.reserved).toHaveLength(1);
  },
);

test("other gateways on the same database, and a later start, give the same answer", async () => {
  const [one, two] = [await start(), await start()];
  const key = newKey();
  const text = await (await ask(one, { key })).text();
  expect(await (await ask(two, { key })).text()).toBe(text);
  await one.close();
  cleanUp.shift();
  const restarted = await start();
  expect(await (await ask(restarted, { key })).text()).toBe(text);
});

test.each([1, 2])(
  "the same request at once, on %s gateways, waits for the first one's answer",
  async (count) => {
    const gateways = [await start(), ...(count === 2 ? [await start()] : [])];
    const before = asked;
    const key = newKey();
    const open = closeGate();
    const asking = Array.from({ length: 6 }, (_, index) =>
      ask(gateways[index % count] as TestGateway, { key }),
    );
    const texts = Promise.all(asking.map(async (one) => (await one).text()));
    while (asked === before) await new Promise((resolve) => setTimeout(resolve, 1));
    open();
    expect(new Set(await texts).size).toBe(1);
    expect(asked).toBe(before + 1);
    const settled = gateways.flatMap(({ accounts }) => accounts.settled);
    expect(settled).toHaveLength(1);
  },
);

test("who would wait for too long is told that the first is still under way", async () => {
  const served = await start({ idempotencyWaitMs: 1 });
  const key = newKey();
  const open = closeGate();
  const before = asked;
  const first = ask(served, { key });
  while (asked === before) await new Promise((resolve) => setTimeout(resolve, 1));
  const second = await ask(served, { key });
  expect([second.status, await codeOf(second)]).toEqual([409, "idempotency_key_in_use"]);
  expect(second.headers.get("x-should-retry")).toBe("true");
  open();
  expect((await first).status).toBe(200);
});

test("the same key with another body is refused, and another project's key is its own", async () => {
  const served = await start();
  const key = newKey();
  const text = await (await ask(served, { key })).text();
  const reused = await ask(served, { key, body: { temperature: 0 } });
  expect([reused.status, await codeOf(reused)]).toEqual([422, "idempotency_key_reused"]);
  expect(reused.headers.get("x-should-retry")).toBe("false");
  const others = await ask(served, { key, as: othersKey });
  expect(others.headers.has("idempotent-replayed")).toBe(false);
  expect(await others.text()).not.toBe(text);
});

test("a stream that is to be framed otherwise is another request, and where the key stood is not", async () => {
  const served = await start();
  const key = newKey();
  const stream = (query: string, headers: Record<string, string> = {}) =>
    fetch(`${served.url}/v1beta/models/m:streamGenerateContent?${query}`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key, ...headers },
      body: JSON.stringify({ contents: [{ role: "user", parts: [{ text: "Hi" }] }] }),
    });
  const events = await (await stream(`alt=sse&key=${apiKey}`)).text();
  const again = await stream("alt=sse", { "x-goog-api-key": apiKey });
  expect([again.headers.get("idempotent-replayed"), await again.text()]).toEqual(["true", events]);
  expect((await stream(`key=${apiKey}`)).status).toBe(422);
});

test("what failed, or broke in the middle, is made anew", async () => {
  const served = await start();
  for (const body of [{ model: "ill" }, { model: "cut", stream: true }, { model: "nobody" }]) {
    const key = newKey();
    const before = asked;
    const first = await ask(served, { key, body });
    await first.text();
    const again = await ask(served, { key, body });
    await again.text();
    expect(again.headers.has("idempotent-replayed")).toBe(false);
    expect(asked - before).toBe(body.model === "nobody" ? 0 : 2);
  }
});

test("a client that leaves finds the whole answer when it asks again, and it is billed once", async () => {
  const served = await start();
  for (const stream of [false, true]) {
    const key = newKey();
    const before = [asked, served.accounts.settled.length] as const;
    const open = closeGate();
    const client = new AbortController();
    const gone = ask(served, { key, body: { stream }, signal: client.signal }).catch(() => "gone");
    while (asked === before[0]) await new Promise((resolve) => setTimeout(resolve, 1));
    client.abort();
    expect(await gone).toBe("gone");
    open();
    const again = await ask(served, { key, body: { stream } });
    expect(await again.text()).toContain(`answer ${before[0] + 1}`);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(served.accounts.settled.slice(before[1])).toMatchObject([{ outcome: "ok" }]);
  }
});

test("an answer that is too large to be kept passes whole, and is told as lost afterwards", async () => {
  const served = await start({ idempotencyAnswerBytesMax: 1000 });
  for (const stream of [false, true]) {
    const key = newKey();
    const first = await ask(served, { key, body: { model: "long", stream } });
    expect((await first.text()).length).toBeGreaterThan(5000);
    const again = await ask(served, { key, body: { model: "long", stream } });
    expect([again.status, await codeOf(again)]).toEqual([409, "idempotency_answer_lost"]);
  }
});

test("what has expired is made anew", async () => {
  const served = await start({}, { retentionMs: 0 });
  const key = newKey();
  const before = asked;
  await (await ask(served, { key })).text();
  await (await ask(served, { key })).text();
  expect(asked).toBe(before + 2);
});

test("a stop keeps what its clients will ask for again", async () => {
  const served = await start();
  const key = newKey();
  const before = asked;
  const open = closeGate();
  const client = new AbortController();
  const gone = ask(served, { key, body: { stream: true }, signal: client.signal }).catch(
    () => "gone",
  );
  while (asked === before) await new Promise((resolve) => setTimeout(resolve, 1));
  client.abort();
  await gone;
  const closing = served.close();
  cleanUp.pop();
  open();
  await closing;
  const again = await ask(await start(), { key, body: { stream: true } });
  expect(again.headers.get("idempotent-replayed")).toBe("true");
  expect(asked).toBe(before + 1);
});

test("a key is 1 to 255 visible characters", async () => {
  const served = await start();
  for (const key of ["x".repeat(256), "a b"]) {
    const response = await ask(served, { key });
    expect([response.status, await codeOf(response)]).toEqual([400, "invalid_value"]);
  }
});

test("more requests with a key than are held at one time are refused, and may be sent again", async () => {
  const served = await start({ idempotencyUnderWayMax: 1 });
  const open = closeGate();
  const before = asked;
  const first = ask(served, { key: newKey() });
  while (asked === before) await new Promise((resolve) => setTimeout(resolve, 1));
  const key = newKey();
  const refused = await ask(served, { key });
  expect([refused.status, await codeOf(refused)]).toEqual([503, "server_is_overloaded"]);
  open();
  await first;
  expect((await ask(served, { key })).status).toBe(200);
});

test("what a process that died had under way is taken over when its lease ends, and renewed before", async () => {
  const request = {
    projectId: acme.id,
    keyHash: "dead",
    fingerprint: "f",
    requestId: "req_1",
    owner: "dead-process",
  };
  const short = openStore({ leaseMs: -1000 });
  expect(await short.claim(request)).toEqual({ type: "claimed" });
  expect(await short.claim({ ...request, owner: "next" })).toEqual({ type: "claimed" });
  const store = openStore();
  await store.renew(["next"]);
  expect(await store.claim({ ...request, owner: "third" })).toEqual({ type: "under_way" });
  // One that was taken for dead and was only slow changes nothing any more.
  await store.keep(request, { status: 200, headers: {}, body: new Uint8Array([1]) });
  await store.release(request);
  expect(await store.claim({ ...request, owner: "third" })).toEqual({ type: "under_way" });
});

test("of one project no more are kept than its bound", async () => {
  const store = openStore({ answersMax: 3 });
  const project = { projectId: "proj_bound", fingerprint: "f", requestId: "req_1" };
  for (let index = 0; index < 202; index++) {
    const request = { ...project, keyHash: `k${index}`, owner: `o${index}` };
    await store.claim(request);
    await store.keep(request, { status: 200, headers: {}, body: new Uint8Array() });
  }
  const counted = async () => {
    const [row] = await database.sql<{ count: number }[]>`
      select count(*)::int as count from gateway.idempotent_requests
      where project_id = 'proj_bound'`;
    return row?.count ?? 0;
  };
  while ((await counted()) > 103) await new Promise((resolve) => setTimeout(resolve, 1));
});

test("while the database is away a key cannot be honoured, and that is said", async () => {
  const sql = database.connect();
  await sql.end();
  const idempotency = new Idempotency({
    store: openStore({ sql }),
    logger: pino({ level: "silent" }),
    limits: {
      idempotencyAnswerBytesMax: 1,
      idempotencyWaitMs: 1,
      idempotencyLeaseMs: 1000,
      idempotencyUnderWayMax: 1,
    },
    now: Date.now,
  });
  const { signal } = new AbortController();
  const keyed = { projectId: "p", key: "k", asked: "a", requestId: "r", client: signal };
  await expect(
    idempotency.once(keyed, () => Promise.reject(new Error("was asked"))),
  ).rejects.toMatchObject({ code: "database_unavailable" });
  await idempotency.close();
});
