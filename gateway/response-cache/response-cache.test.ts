/** Answers that are given again, as official clients see them, over the real door. */
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { ErrorBody } from "../../sdk/protocol/errors.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import {
  testAdapter,
  testBase,
  testKey,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../../test/support/policy.ts";
import { defaultLimits } from "../config.ts";
import { MemoryStore } from "./memory-store.ts";
import type { ResponseCacheStore } from "./store.ts";

const acmeKey = "sk-sy-key-of-the-acme-project";
const otherKey = "sk-sy-key-of-the-other-project";
const eagerKey = "sk-sy-key-of-the-eager-project";
const adminKey = "sk-sy-key-of-an-administrator";
const acme = testProject("acme");
const other = testProject("other");
const eager = testProject("eager", { responseCache: { ttlSeconds: 60 } });
const modelNames = ["gpt-test", "second"];
const policy = (more: { champion?: number; upstreamModel?: string } = {}, version = 1) => ({
  ...testSnapshot({
    projects: [acme, other, eager],
    keys: [
      testKey(acmeKey, { projectId: acme.id }),
      testKey(otherKey, { projectId: other.id }),
      testKey(eagerKey, { projectId: eager.id }),
      testKey(adminKey, { role: "admin" }),
    ],
    models: [
      testModel("gpt-test", { upstreamModel: more.upstreamModel ?? "gpt-test" }),
      ...modelNames.slice(1).map((name) => testModel(name)),
      testModel("cut", { upstreamModel: "gpt-test!cut:3" }),
      testModel("ill", { upstreamModel: "gpt-test!status:500" }),
      testModel("base", { base: testBase, upstream: "embedded" }),
    ],
    adapters: [
      testAdapter("base", "triage", acme, ["one", "two"], {
        aliases: { champion: more.champion ?? 1 },
      }),
    ],
    routes: [testRoute("safe", "ill", { fallbacks: ["gpt-test"] })],
    prices: [
      ...testPrices("gpt-test", { input: "0.000001", output: "0.000002" }),
      ...testPrices("gpt-test", { input: "0.0000001", output: "0.0000002" }).map((price) => ({
        ...price,
        tier: "cached_response" as const,
      })),
    ],
  }),
  version,
});

/** Stands in for an adapter-server, and says which adapter it used. */
const engine: Fetcher = {
  async fetch(request) {
    const { model } = (await request.json()) as { model: string };
    const digest = /@sha256-([0-9a-f]{64})$/.exec(model)?.[1];
    const message = { role: "assistant", content: `as ${digest}` };
    const usage = { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 };
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    return Response.json(
      { object: "chat.completion", choices, usage },
      { headers: { ...(digest && { "x-switchyard-adapter": digest }) } },
    );
  },
};

let answers = 0;
let emulator: OpenAiEmulator;
let served: TestGateway;
let store: ResponseCacheStore;
let nowMs = 0;
/** What the emulated model waits for. */
let gate: Promise<void> = Promise.resolve();
let away = false;
beforeAll(async () => {
  emulator = await startOpenAiEmulator({
    before: () => gate,
    answer: ({ messages, input }) => {
      const said = String(messages ? messages.at(-1)?.content : input);
      const count = ++answers;
      if (said === "be cut short") return { content: "half an", finish: "length" };
      if (said === "refuse") return { content: "", refusal: "I will not." };
      return {
        content: `answer ${count} to ${said} 😀`,
        usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
      };
    },
  });
  store = new MemoryStore({ bounds: defaultLimits, now: () => Date.now() + nowMs });
  const failing =
    <A extends unknown[], R>(operation: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> =>
      away ? Promise.reject(new Error("the store is away")) : operation(...args);
  served = await startTestGateway({
    snapshot: policy(),
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl, api: "both" }],
    responseCache: {
      get: failing(store.get.bind(store)),
      put: failing(store.put.bind(store)),
      purge: failing(store.purge.bind(store)),
      figures: failing(store.figures.bind(store)),
      close() {},
    },
    embedded: engine,
    // Upstreams that fail by design are asked again and again.
    limits: { responseCacheAnswerBytesMax: 8192, breakerFailures: 1000 },
  });
});
afterAll(async () => {
  await served?.close();
  await emulator?.close();
});
beforeEach(async () => {
  await Promise.all([acme, other, eager].map(({ id }) => store.purge(id)));
  served.accounts.settled.length = 0;
  answers = 0;
  nowMs = 0;
  away = false;
  gate = Promise.resolve();
});

type Asked = {
  key?: string;
  cache?: string | undefined;
  body?: object;
  path?: string;
  signal?: AbortSignal;
  control?: string;
};
const ask = (
  said: string,
  { key = acmeKey, cache = "ttl=60", body, path, signal, control }: Asked = {},
) =>
  fetch(served.url + (path ?? "/v1/chat/completions"), {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      ...(cache && { "x-switchyard-cache": cache }),
      ...(control && { "cache-control": control }),
    },
    body: JSON.stringify({
      model: "gpt-test",
      messages: [{ role: "user", content: said }],
      ...body,
    }),
    signal: signal ?? null,
  });
const said = async (response: Response) => ({
  cache: response.headers.get("x-switchyard-cache"),
  text: await response.text(),
});
const twice = async (text: string, first: Asked = {}, second: Asked = first) => {
  const one = await said(await ask(text, first));
  return [one, await said(await ask(text, second))] as const;
};

for (const stream of [false, true]) {
  test(`the second of two equal requests gets the first's bytes, ${stream ? "streamed" : "whole"}`, async () => {
    const body = { stream, ...(stream && { stream_options: { include_usage: true } }) };
    const first = await ask("Hi", { body });
    expect(first.headers.get("x-switchyard-cache")).toBe("miss");
    const bytes = Buffer.from(await first.arrayBuffer());
    const second = await ask("Hi", { body });
    expect(second.headers.get("x-switchyard-cache")).toBe("hit");
    expect(second.headers.get("age")).toBe("0");
    expect(second.headers.get("x-switchyard-replay-of")).toBe(first.headers.get("x-request-id"));
    expect(second.headers.get("x-request-id")).not.toBe(first.headers.get("x-request-id"));
    for (const name of ["content-type", "cache-control", "x-switchyard-model"]) {
      expect(second.headers.get(name)).toBe(first.headers.get(name));
    }
    expect(Buffer.from(await second.arrayBuffer()).equals(bytes)).toBe(true);
    expect(answers).toBe(1);
  });
}

test("a hit is settled as one: its own price, nothing used, the first's usage beside it", async () => {
  const first = await ask("Money");
  expect(first.headers.get("x-switchyard-cost-usd")).toBe("0.00002");
  await first.text();
  const second = await ask("Money");
  expect(second.headers.get("x-switchyard-cost-usd")).toBe("0.000002");
  expect(second.headers.get("x-ratelimit-limit-requests")).toBe("60");
  await second.text();
  await served.accounts.untilSettled(2);
  const [made, hit] = served.accounts.settled;
  expect(made?.responseCache).toBeUndefined();
  expect(hit).toMatchObject({
    outcome: "ok",
    usage: { input: 0, output: 0 },
    responseCache: { usage: { input: 10, output: 5 }, estimated: false },
    answered: { model: "gpt-test", upstream: "emulated" },
  });
});

test("official clients read a hit as they read the answer", async () => {
  const openai = new OpenAI({
    apiKey: acmeKey,
    baseURL: `${served.url}/v1`,
    maxRetries: 0,
    defaultHeaders: { "x-switchyard-cache": "ttl=60" },
  });
  const anthropic = new Anthropic({
    apiKey: acmeKey,
    baseURL: served.url,
    maxRetries: 0,
    defaultHeaders: { "x-switchyard-cache": "ttl=60" },
  });
  const messages = [{ role: "user" as const, content: "Clients" }];
  const both = async <T>(make: () => Promise<T>) => {
    const before = answers;
    const seen = [await make(), await make()];
    expect(seen[1]).toEqual(seen[0]);
    expect(answers).toBe(before + 1);
  };
  await both(() => openai.chat.completions.create({ model: "gpt-test", messages }));
  await both(() =>
    openai.chat.completions.stream({ model: "gpt-test", messages }).finalChatCompletion(),
  );
  await both(() => openai.responses.create({ model: "gpt-test", input: "Clients", store: false }));
  await both(() => anthropic.messages.create({ model: "gpt-test", max_tokens: 50, messages }));
  await both(() =>
    anthropic.messages.stream({ model: "gpt-test", max_tokens: 50, messages }).finalMessage(),
  );
});

test("another project never gets it, nor does another form of the same question", async () => {
  await twice("Ours");
  expect((await said(await ask("Ours", { key: otherKey }))).cache).toBe("miss");
  for (const body of [
    { stream: true },
    { max_tokens: 7 },
    { temperature: 0 },
    { unknown_field: 1 },
    { model: "second" },
    { messages: [{ role: "user", content: "Ours", name: "ann" }] },
    { response_format: { type: "text" } },
  ]) {
    expect((await said(await ask("Ours", { body }))).cache, JSON.stringify(body)).toBe("miss");
  }
});

test("order of fields, user and metadata make no other question", async () => {
  await said(await ask("Same", { body: { max_tokens: 5, seed: 1, user: "ann" } }));
  const again = await ask("Same", {
    body: { user: "bob", metadata: { a: "b" }, seed: 1, max_tokens: 5 },
  });
  expect((await said(again)).cache).toBe("hit");
});

test("numbers that no double holds tell two questions apart", async () => {
  const raw = (seed: string) =>
    fetch(`${served.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${acmeKey}`,
        "content-type": "application/json",
        "x-switchyard-cache": "ttl=60",
      },
      body: `{"model":"gpt-test","messages":[{"role":"user","content":"big"}],"seed":${seed}}`,
    });
  await said(await raw("9007199254740993"));
  expect((await said(await raw("9007199254740992"))).cache).toBe("miss");
  expect((await said(await raw("9007199254740993"))).cache).toBe("hit");
});

test("an adapter that is promoted, and a model that is changed, are asked anew", async () => {
  const body = { model: "base:triage" };
  const first = await ask("Triage", { body });
  expect(first.headers.get("x-switchyard-cache")).toBe("miss");
  await first.text();
  expect((await said(await ask("Triage", { body }))).cache).toBe("hit");
  served.registry.publish(policy({ champion: 2 }, 2));
  await served.gateway.refresh();
  expect((await said(await ask("Triage", { body }))).cache).toBe("miss");
  await twice("Model");
  served.registry.publish(policy({ upstreamModel: "gpt-other" }, 3));
  await served.gateway.refresh();
  expect((await said(await ask("Model"))).cache).toBe("miss");
  served.registry.publish(policy({}, 4));
  await served.gateway.refresh();
});

test("without being asked nothing is kept; a project's setting asks for what has no chance in it", async () => {
  expect((await twice("Plain", { cache: "" })).map(({ cache }) => cache)).toEqual([null, null]);
  const eagerly = { key: eagerKey, cache: "" };
  const cold = { ...eagerly, body: { temperature: 0 } };
  expect((await twice("Eager", eagerly)).map(({ cache }) => cache)).toEqual(["bypass", "bypass"]);
  expect((await twice("Eager", cold)).map(({ cache }) => cache)).toEqual(["miss", "hit"]);
  expect((await said(await ask("Eager", { ...cold, cache: "no-store" }))).cache).toBe(null);
  const embedded = { key: eagerKey, cache: "", path: "/v1/embeddings", body: { input: "Hi" } };
  expect((await said(await ask("", embedded))).cache).toBe("miss");
});

test("'no-cache' has a new answer made, which is kept from then on", async () => {
  await twice("Again");
  const fresh = await said(await ask("Again", { cache: "ttl=60, no-cache" }));
  expect(fresh.cache).toBe("store");
  expect(await said(await ask("Again"))).toEqual({ cache: "hit", text: fresh.text });
});

test("what HTTP says of caches holds here: 'no-store', 'no-cache' and 'max-age'", async () => {
  await twice("Control");
  const cacheOf = async (control: string, cache?: string) =>
    (await said(await ask("Control", { control, ...(cache !== undefined && { cache }) }))).cache;
  expect(await cacheOf("no-store")).toBe(null);
  expect(await cacheOf("max-age=30, no-transform")).toBe("hit");
  expect(await cacheOf("no-cache")).toBe("store");
  expect(await cacheOf("max-age=60", "")).toBe(null);
  const before = answers;
  await vi.waitFor(async () => expect(await cacheOf("max-age=0")).toBe("store"), 10_000);
  expect(answers).toBe(before + 1);
  expect(await cacheOf("max-age=600")).toBe("hit");
});

test("a stream is no source of a whole answer, nor the other way round", async () => {
  const [whole, stream] = [{}, { body: { stream: true } }];
  expect((await said(await ask("Either", whole))).cache).toBe("miss");
  expect((await said(await ask("Either", stream))).cache).toBe("miss");
  const again = [await said(await ask("Either", whole)), await said(await ask("Either", stream))];
  expect(again.map(({ cache }) => cache)).toEqual(["hit", "hit"]);
  expect(again[0]?.text).toContain('"object":"chat.completion"');
  expect(again[1]?.text).toMatch(/^data: .*"chat.completion.chunk"/);
});

test("an answer is given no longer than was asked when it was made", async () => {
  await twice("Old");
  nowMs = 61_000;
  expect((await said(await ask("Old"))).cache).toBe("miss");
});

test.each([
  ["be cut short", {}],
  ["refuse", {}],
  ["broken off", { model: "cut", stream: true }],
  ["failed", { model: "ill" }],
  ["from a fallback", { model: "safe" }],
  ["long ".repeat(2000), {}],
])("what is no whole good answer is not kept: %s", async (text, body) => {
  const asked = { body };
  const seen = [await ask(text, asked), await ask(text, asked)];
  for (const response of seen) {
    expect(response.headers.get("x-switchyard-cache")).toBe("miss");
    await response.text().catch(() => {});
  }
  expect(await store.figures()).toMatchObject({ entries: 0 });
});

test.each([
  ["tools", { tools: [{ type: "function", function: { name: "act" } }] }],
  ["functions", { functions: [{ name: "act" }] }],
  ["web search", { web_search_options: {} }],
])("a request with %s passes by", async (_, body) => {
  expect((await twice("Tools", { body })).map(({ cache }) => cache)).toEqual(["bypass", "bypass"]);
});

test("of many that ask the same at once one is answered, and all get its bytes", async () => {
  let open = () => {};
  gate = new Promise((resolve) => {
    open = resolve;
  });
  served.accounts.reserved.length = 0;
  const asked = Array.from({ length: 20 }, () => ask("Crowd", { body: { stream: true } }));
  await vi.waitFor(() => expect(served.accounts.reserved.length).toBe(20), 10_000);
  open();
  const seen = await Promise.all(asked.map(async (response) => said(await response)));
  expect(answers).toBe(1);
  expect(new Set(seen.map(({ text }) => text)).size).toBe(1);
  expect(seen.filter(({ cache }) => cache === "hit")).toHaveLength(19);
  await served.accounts.untilSettled(20);
});

test("when who asked first leaves, the next one asks, and gets all of it", async () => {
  let open = () => {};
  gate = new Promise((resolve) => {
    open = resolve;
  });
  served.accounts.reserved.length = 0;
  const leaving = new AbortController();
  const first = ask("Leave", { signal: leaving.signal }).catch(() => undefined);
  const second = ask("Leave");
  await vi.waitFor(() => expect(served.accounts.reserved.length).toBe(2), 10_000);
  leaving.abort();
  open();
  await first;
  const { text } = await said(await second);
  expect(text).toContain("to Leave");
});

test("a stream is given again at its own pace where that is asked for, to the same bytes", async () => {
  const [fast] = await twice("Pace", { body: { stream: true } });
  const paced = await said(
    await ask("Pace", { cache: "ttl=60, pace=recorded", body: { stream: true } }),
  );
  expect(paced).toEqual({ cache: "hit", text: fast.text });
});

test("a store that is away makes misses and no errors, but cannot promise to forget", async () => {
  away = true;
  expect((await twice("Away")).map(({ cache }) => cache)).toEqual(["miss", "miss"]);
  const purged = await fetch(`${served.url}/api/cache`, {
    method: "DELETE",
    headers: { authorization: `Bearer ${acmeKey}` },
  });
  expect(purged.status).toBe(503);
});

test("a project forgets its own answers and no other's", async () => {
  await twice("Purge");
  await twice("Purge", { key: otherKey });
  const purge = (key: string) =>
    fetch(`${served.url}/api/cache`, {
      method: "DELETE",
      headers: { authorization: `Bearer ${key}` },
    });
  expect(await (await purge(acmeKey)).json()).toEqual({
    object: "response_cache.purged",
    purged: 1,
  });
  expect((await said(await ask("Purge"))).cache).toBe("miss");
  expect((await said(await ask("Purge", { key: otherKey }))).cache).toBe("hit");
  expect((await purge("sk-sy-nobody")).status).toBe(401);
});

test("an administrator forgets a project's answers by name, and the audit log has it before", async () => {
  const purge = (query: string, key = adminKey) =>
    fetch(`${served.url}/api/cache${query}`, {
      method: "DELETE",
      headers: { authorization: `Bearer ${key}` },
    });
  const byName = `?project=${acme.id}`;
  await twice("By name");
  await twice("By name", { key: otherKey });
  served.registry.down = true;
  expect((await purge(byName)).status).toBe(503);
  served.registry.down = false;
  expect((await said(await ask("By name"))).cache).toBe("hit");
  expect((await purge(byName, otherKey)).status).toBe(403);
  expect((await purge(byName, acmeKey)).status).toBe(403);
  expect((await purge(`?project=${newId("proj")}`)).status).toBe(404);
  expect((await purge("?project=acme")).status).toBe(400);
  expect((await purge("")).status).toBe(403);

  const noted = new Promise<Request>((resolve) => {
    const push = served.registry.requests.push;
    served.registry.requests.push = function (...all) {
      served.registry.requests.push = push;
      resolve((all[0] as Request).clone());
      return push.apply(this, all);
    };
  });
  expect(await (await purge(byName)).json()).toMatchObject({ purged: 1 });
  const event = await noted;
  expect(new URL(event.url).pathname).toBe("/api/events");
  expect(await event.json()).toMatchObject({
    ...{ type: "response_cache.purged", subject: acme.id, projectId: acme.id },
    actor: expect.stringMatching(/^key_/),
  });
  expect((await said(await ask("By name"))).cache).toBe("miss");
  expect((await said(await ask("By name", { key: otherKey }))).cache).toBe("hit");
});

test("a word that is none is refused before anything is reserved", async () => {
  const before = served.accounts.reserved.length;
  const response = await ask("Typo", { cache: "ttl=soon" });
  expect(response.status).toBe(400);
  const { error } = (await response.json()) as ErrorBody;
  expect(error).toMatchObject({ code: "invalid_value", param: "x-switchyard-cache" });
  expect(served.accounts.reserved.length).toBe(before);
});

test("Prometheus is told what the cache did and holds", async () => {
  await twice("Count");
  const text = await (await fetch(`${served.url}/metrics`)).text();
  expect(text).toMatch(/gateway_response_cache_requests_total\{result="hit"\} [1-9]/);
  expect(text).toMatch(/gateway_response_cache_entries 1\n/);
  expect(text).toMatch(/gateway_response_cache_bytes [1-9]/);
});
