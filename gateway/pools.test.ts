/** Several keys and several places of one upstream: who is asked, who rests, and what a failure of one costs the others. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { ErrorBody } from "../sdk/protocol/errors.ts";
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
import type { UpstreamSettings } from "./providers/settings.ts";

const acme = testProject("acme");
const apiKey = "sk-sy-key-of-the-acme-project";
const policy = testSnapshot({
  projects: [acme],
  keys: [testKey(apiKey, { projectId: acme.id })],
  models: [testModel("m", { upstream: "pool" }), testModel("n", { upstream: "pool" })],
  routes: [testRoute("auto", "m", { fallbacks: ["n"] })],
});

type Asked = { key: string; model: string; stream: boolean };
type Place = { url: string; asked: Asked[]; aborts: number };
/** What a place does with a call; by default it answers. */
type Act = (asked: Asked, response: ServerResponse) => void;

let served: TestGateway;
const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function startPlace(act: Act = (asked, response) => answer(asked, response)): Promise<Place> {
  const place: Place = { url: "", asked: [], aborts: 0 };
  const server = createServer((request, response) => {
    void readBody(request).then((text) => {
      const { model, stream = false } = JSON.parse(text) as Asked;
      const asked = { key: String(request.headers.authorization).slice(7), model, stream };
      response.on("close", () => {
        if (!response.writableFinished) place.aborts++;
      });
      place.asked.push(asked);
      act(asked, response);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  cleanUp.push(
    () =>
      new Promise((done) => {
        server.close(done);
        server.closeAllConnections();
      }),
  );
  place.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return place;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function answer({ stream }: Asked, response: ServerResponse, content = "ok"): void {
  if (!stream) {
    const message = { role: "assistant", content };
    const usage = { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 };
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ choices, usage }));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(
    `${frame({ role: "assistant", content: "" })}${frame({ content })}${frame({}, "stop")}data: [DONE]\n\n`,
  );
}

function frame(delta: object, finish: string | null = null): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
}

const fail =
  (status: number, headers: Record<string, string> = {}): Act =>
  (_, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify({ error: { message: `asked for ${status}` } }));
  };

async function start(
  upstream: Partial<UpstreamSettings>,
  options: Partial<TestGatewayOptions> = {},
): Promise<void> {
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "pool", type: "openai", ...upstream } as UpstreamSettings],
    env: { KEY_A: "key-a", KEY_B: "key-b", KEY_C: "key-c" },
    ...options,
    limits: { retriesMax: 2, retryWaitMs: 1, ...options.limits },
  });
  cleanUp.push(() => served.close());
}

const ask = (more: object = {}, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  fetch(`${served.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}`, ...headers },
    body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "hello" }], ...more }),
    signal: signal ?? null,
  });
const codeOf = async (response: Response) => ((await response.json()) as ErrorBody).error.code;
const triedBy = (settled = served.accounts.settled.at(-1)) => {
  const { tried } = (settled?.decision ?? {}) as { tried?: Record<string, unknown>[] };
  return tried ?? [];
};
const keysAsked = ({ asked }: Place) => asked.map(({ key }) => key);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

test("a key that is refused is left alone, and the others go on", async () => {
  const place = await startPlace((asked, response) =>
    asked.key === "key-a" ? fail(401)(asked, response) : answer(asked, response),
  );
  await start(
    { baseUrl: place.url, keys: ["KEY_A", "KEY_B"], balance: "weighted" },
    { random: () => 0 },
  );
  for (let i = 0; i < 4; i++) expect((await ask()).status).toBe(200);
  expect(keysAsked(place)).toEqual(["key-a", "key-b", "key-b", "key-b", "key-b"]);
  expect(triedBy(served.accounts.settled[0])).toMatchObject([
    { deployment: "key-1", error: "upstream_auth_failed" },
    { deployment: "key-2" },
  ]);
  expect(await (await fetch(`${served.url}/metrics`)).text()).toContain(
    'gateway_deployment_breaker_open{upstream="pool",deployment="key-1"} 1',
  );
});

test("a key without quota is left alone as one that is refused", async () => {
  const place = await startPlace((asked, response) =>
    asked.key === "key-a" ? fail(402)(asked, response) : answer(asked, response),
  );
  await start(
    { baseUrl: place.url, keys: ["KEY_A", "KEY_B"], balance: "weighted" },
    { random: () => 0 },
  );
  for (let i = 0; i < 3; i++) expect((await ask()).status).toBe(200);
  expect(keysAsked(place)).toEqual(["key-a", "key-b", "key-b", "key-b"]);
});

test("a key of Cohere's without credit is left alone too, and the next model is asked when there is no other", async () => {
  const place = await startPlace((asked, response) =>
    asked.model === "m" ? fail(402)(asked, response) : answer(asked, response),
  );
  const upstreams = [
    { name: "cohere", type: "cohere", baseUrl: place.url, keys: ["KEY_A", "KEY_B"] },
    { name: "pool", type: "openai", baseUrl: place.url },
  ] as UpstreamSettings[];
  const models = [testModel("m", { upstream: "cohere" }), testModel("n", { upstream: "pool" })];
  await start({}, { upstreams, snapshot: { ...policy, models }, random: () => 0 });
  const answered = await ask({ model: "auto" });
  expect([answered.status, answered.headers.get("x-switchyard-model")]).toEqual([200, "n"]);
  expect(triedBy()).toMatchObject([
    { deployment: "key-1" },
    { deployment: "key-2" },
    { model: "n" },
  ]);
  expect((await ask({ model: "auto" })).status).toBe(200);
  // Both rest: an empty account is not filled within a moment.
  expect(place.asked.map(({ model }) => model)).toEqual(["m", "m", "n", "n"]);
});

test("a key that met a limit rests for as long as it was told, and for that model alone", async () => {
  let skewMs = 0;
  const limited = new Set(["key-a"]);
  const place = await startPlace((asked, response) =>
    limited.has(asked.key) && asked.model === "m"
      ? fail(429, { "retry-after": "30" })(asked, response)
      : answer(asked, response),
  );
  await start(
    { baseUrl: place.url, keys: ["KEY_A", "KEY_B"], balance: "weighted" },
    { random: () => 0, now: () => Date.now() + skewMs },
  );
  for (let i = 0; i < 3; i++) expect((await ask()).status).toBe(200);
  expect(keysAsked(place)).toEqual(["key-a", "key-b", "key-b", "key-b"]);
  await ask({ model: "n" });
  expect(place.asked.at(-1)).toMatchObject({ key: "key-a", model: "n" });
  limited.clear();
  skewMs = 30_000;
  await ask();
  expect(place.asked.at(-1)).toMatchObject({ key: "key-a", model: "m" });
});

test("when every key has met its limit, the client is told how long, and is asked to wait no more than it has to", async () => {
  const place = await startPlace(fail(429, { "retry-after": "30" }));
  await start({ baseUrl: place.url, keys: ["KEY_A", "KEY_B"] });
  const response = await ask();
  expect([response.status, await codeOf(response)]).toEqual([429, "rate_limit_exceeded"]);
  expect(response.headers.get("retry-after")).toBe("30");
  expect(new Set(keysAsked(place))).toEqual(new Set(["key-a", "key-b"]));
});

test("a deployment that fails is left alone, and one call finds out when it is back", async () => {
  let skewMs = 0;
  let isIll = true;
  const ill = await startPlace((asked, response) =>
    isIll ? fail(500)(asked, response) : answer(asked, response),
  );
  const well = await startPlace();
  await start(
    {
      apiKeyEnv: "KEY_A",
      deployments: [
        { name: "ill", baseUrl: ill.url },
        { name: "well", baseUrl: well.url, tier: 1 },
      ],
    },
    { now: () => Date.now() + skewMs, limits: { breakerFailures: 2, breakerOpenMs: 60_000 } },
  );
  for (let i = 0; i < 5; i++) expect((await ask()).status).toBe(200);
  expect(ill.asked).toHaveLength(2);
  isIll = false;
  skewMs = 60_000;
  const answers = await Promise.all([ask(), ask(), ask()]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  // One was let through to find out; the first tier is back for all from then on.
  expect(ill.asked.length).toBeGreaterThanOrEqual(3);
  const before = ill.asked.length;
  await ask();
  expect(ill.asked).toHaveLength(before + 1);
});

test("an upstream whose deployments all fail is unavailable, and says for how long", async () => {
  const ill = await startPlace(fail(500));
  const alsoIll = await startPlace(fail(500));
  await start(
    {
      deployments: [
        { name: "a", baseUrl: ill.url },
        { name: "b", baseUrl: alsoIll.url },
      ],
    },
    { limits: { breakerFailures: 1, breakerOpenMs: 60_000, retriesMax: 1 } },
  );
  expect((await ask()).status).toBe(502);
  const refused = await ask();
  expect([refused.status, await codeOf(refused)]).toEqual([503, "upstream_unavailable"]);
  expect(Number(refused.headers.get("retry-after-ms"))).toBeGreaterThan(0);
  expect(ill.asked.length + alsoIll.asked.length).toBe(2);
});

test("requests that belong together go to one deployment", async () => {
  const places = await Promise.all([startPlace(), startPlace(), startPlace()]);
  await start({
    deployments: places.map(({ url }, index) => ({ name: `p${index}`, baseUrl: url })),
    balance: "least-busy",
  });
  for (let i = 0; i < 6; i++) await ask({ prompt_cache_key: "conversation-1" });
  expect(places.map(({ asked }) => asked.length).sort()).toEqual([0, 0, 6]);
  for (let i = 0; i < 30; i++) await ask({ user: `user-${i}` });
  for (const { asked } of places) expect(asked.length).toBeGreaterThan(0);
});

test("a prompt's beginning keeps a conversation together where the settings say so", async () => {
  const places = await Promise.all([startPlace(), startPlace(), startPlace()]);
  await start({
    deployments: places.map(({ url }, index) => ({ name: `p${index}`, baseUrl: url })),
    stickyBy: "prefix",
  });
  const messages = [
    { role: "system", content: "You are kind." },
    { role: "user", content: "Hi" },
  ];
  for (let turn = 0; turn < 4; turn++) {
    await ask({ messages });
    messages.push({ role: "assistant", content: "Hello" }, { role: "user", content: "More" });
  }
  expect(places.map(({ asked }) => asked.length).sort()).toEqual([0, 0, 4]);
});

test("what passes by itself is asked again, before another model is", async () => {
  let failures = 2;
  const place = await startPlace((asked, response) =>
    failures-- > 0 ? fail(503)(asked, response) : answer(asked, response),
  );
  await start({ baseUrl: place.url });
  const response = await ask({ model: "auto" });
  expect(response.headers.get("x-switchyard-model")).toBe("m");
  expect(response.headers.get("x-switchyard-attempts")).toBe("3");
  expect(place.asked.map(({ model }) => model)).toEqual(["m", "m", "m"]);
  expect(served.accounts.settled).toHaveLength(1);
});

test("a wait that an upstream asks for is waited for where it is short, and left to the client where it is long", async () => {
  let seconds = "0.05";
  const place = await startPlace((asked, response) =>
    place.asked.length % 2 === 1
      ? fail(429, { "retry-after": seconds })(asked, response)
      : answer(asked, response),
  );
  await start({ baseUrl: place.url });
  expect((await ask()).status).toBe(200);
  expect(triedBy()).toMatchObject([
    { error: "rate_limit_exceeded" },
    { waitedMs: expect.any(Number) },
  ]);
  expect(triedBy()[1]?.waitedMs).toBeGreaterThanOrEqual(50);
  seconds = "5";
  const response = await ask();
  expect([response.status, response.headers.get("retry-after")]).toEqual([429, "5"]);
  expect(place.asked).toHaveLength(3);
});

test("what a client got wrong is asked once", async () => {
  const place = await startPlace(fail(400));
  await start({ baseUrl: place.url });
  expect((await ask()).status).toBe(400);
  expect(place.asked).toHaveLength(1);
});

test("an outage is not made larger than its share", async () => {
  const place = await startPlace(fail(503));
  await start(
    { baseUrl: place.url },
    { limits: { retryReserve: 5, retryShare: 0.1, breakerFailures: 10_000 } },
  );
  for (let i = 0; i < 50; i++) expect((await ask()).status).toBe(503);
  expect(place.asked.length).toBeGreaterThan(50);
  expect(place.asked.length).toBeLessThanOrEqual(50 + 5 + 5);
});

test("a client that leaves while a retry waits is let go, and nothing more is sent", async () => {
  const place = await startPlace(fail(503, { "retry-after": "3" }));
  await start({ baseUrl: place.url });
  const client = new AbortController();
  const asking = ask({}, {}, client.signal).catch(() => "gone");
  await until(() => place.asked.length === 1);
  client.abort();
  expect(await asking).toBe("gone");
  await served.accounts.untilSettled(1);
  expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "client_gone" });
  expect(place.asked).toHaveLength(1);
});

test("what may have acted in the world is not begun again", async () => {
  const place = await startPlace((_, response) => response.socket?.destroy());
  await start({ baseUrl: place.url, api: "responses" });
  const acting = {
    model: "auto",
    input: "x",
    tools: [{ type: "mcp", server_label: "s", server_url: "https://s" }],
  };
  const response = await fetch(`${served.url}/v1/responses`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify(acting),
  });
  expect(response.status).toBe(502);
  expect(place.asked).toMatchObject([{ model: "m" }]);
});

const slowThenNever: Act = () => {};
const twoPlaces = (slow: Place, quick: Place): Partial<UpstreamSettings> => ({
  deployments: [
    { name: "slow", baseUrl: slow.url, weight: 1000 },
    { name: "quick", baseUrl: quick.url, weight: 0.001 },
  ],
  balance: "weighted",
});

test("where the first is slow to begin, a second is asked, the first to answer wins and the other is ended", async () => {
  for (const stream of [false, true]) {
    const slow = await startPlace(slowThenNever);
    const quick = await startPlace((asked, response) =>
      answer(asked, response, "from the quick one"),
    );
    await start({ ...twoPlaces(slow, quick), hedge: { afterMs: 20, shareMax: 1 } });
    const response = await ask({ stream });
    expect(await response.text()).toContain("from the quick one");
    await until(() => slow.aborts === 1);
    expect(triedBy()).toMatchObject([
      {
        deployment: "slow",
        hedge: "lost",
        error: "hedge_lost",
        mayCost: true,
        usage: { input: expect.any(Number), output: 0 },
        estimated: true,
      },
      { deployment: "quick", hedge: "won" },
    ]);
    // Billed once, by the answer that was given.
    expect(served.accounts.settled).toHaveLength(1);
    expect(served.accounts.settled.at(-1)).toMatchObject({
      outcome: "ok",
      unanswered: [{ model: "m", upstream: "pool", estimated: true }],
    });
    expect(await (await fetch(`${served.url}/metrics`)).text()).toMatch(
      /gateway_unanswered_input_tokens_total\{upstream="pool"\} [1-9]/,
    );
  }
});

test("of two that run at once the second may lose as well, and is on the books with its input", async () => {
  const slow = await startPlace(async (asked, response) => {
    await until(() => quick.asked.length === 1);
    answer(asked, response, "from the slow one");
  });
  const quick = await startPlace(async (asked, response) => {
    await until(() => served.accounts.settled.length === 1);
    answer(asked, response, "too late");
  });
  await start({ ...twoPlaces(slow, quick), hedge: { afterMs: 20, shareMax: 1 } });
  expect(await (await ask()).text()).toContain("from the slow one");
  expect(served.accounts.settled[0]?.unanswered).toMatchObject([
    { model: "m", usage: { input: expect.any(Number), output: 0 }, estimated: true },
  ]);
});

test("second calls are a share of all, and no more", async () => {
  const slow = await startPlace((asked, response) => {
    setTimeout(() => answer(asked, response), 30);
  });
  const quick = await startPlace();
  await start({ ...twoPlaces(slow, quick), hedge: { afterMs: 1, shareMax: 0.1 } });
  for (let i = 0; i < 30; i++) expect((await ask()).status).toBe(200);
  // Ten are saved up at the start.
  expect(quick.asked.length).toBeLessThanOrEqual(13);
  expect(slow.asked).toHaveLength(30);
});

test("a client that leaves ends both calls", async () => {
  const slow = await startPlace(slowThenNever);
  const alsoSlow = await startPlace(slowThenNever);
  await start({ ...twoPlaces(slow, alsoSlow), hedge: { afterMs: 5, shareMax: 1 } });
  const client = new AbortController();
  const asking = ask({ stream: true }, {}, client.signal).catch(() => "gone");
  await until(() => alsoSlow.asked.length === 1);
  client.abort();
  expect(await asking).toBe("gone");
  await until(() => slow.aborts === 1 && alsoSlow.aborts === 1);
  await served.accounts.untilSettled(1);
  expect(served.accounts.settled).toMatchObject([{ outcome: "client_gone", usage: { output: 0 } }]);
});

test("a stream that dies within what is held falls back unseen, and a healthy one passes whole", async () => {
  const dying = await startPlace((asked, response) => {
    if (asked.model === "n") return answer(asked, response, "whole");
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(frame({ role: "assistant", content: "" }) + frame({ content: "half an ans" }));
    setImmediate(() => response.socket?.destroy());
  });
  await start({ baseUrl: dying.url }, { limits: { streamHoldBytes: 2000, retriesMax: 0 } });
  const text = await (await ask({ model: "auto", stream: true })).text();
  expect(text).toContain("whole");
  expect(text).not.toContain("half");
  expect(triedBy()).toMatchObject([{ model: "m", mayCost: true }, { model: "n" }]);
  expect(served.accounts.settled).toHaveLength(1);
});

test("a head without words holds a stream back, and dies unseen", async () => {
  const dying = await startPlace((asked, response) => {
    if (asked.model === "n") return answer(asked, response, "whole");
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(frame({ role: "assistant", content: "" }), () => response.socket?.destroy());
  });
  await start({ baseUrl: dying.url }, { limits: { retriesMax: 0 } });
  expect(await (await ask({ model: "auto", stream: true })).text()).toContain("whole");
});

test("a stream that says only that it has begun is let through after a while", async () => {
  const place = await startPlace((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(frame({ role: "assistant", content: "" }));
  });
  await start({ baseUrl: place.url }, { limits: { streamHoldMs: 20, keepAliveMs: 20 } });
  const client = new AbortController();
  const response = await ask({ stream: true }, {}, client.signal);
  expect(response.status).toBe(200);
  const reader = response.body?.getReader();
  const first = new TextDecoder().decode((await reader?.read())?.value);
  expect(first).toContain('"role":"assistant"');
  client.abort();
  await served.accounts.untilSettled(1);
});

test("a route says whom to ask after which failure", async () => {
  const place = await startPlace((asked, response) => {
    if (asked.model !== "small") return answer(asked, response, asked.model);
    response.writeHead(400, { "content-type": "application/json" });
    const code = place.asked.length === 1 ? "context_length_exceeded" : "content_filter";
    response.end(JSON.stringify({ error: { message: "no", code } }));
  });
  const models = ["small", "also-small", "large", "lenient"].map((id) =>
    testModel(id, { upstream: "pool", ...(id.includes("small") && { contextLength: 100_000 }) }),
  );
  const snapshot = {
    ...policy,
    models,
    routes: [
      testRoute("auto", "small", {
        fallbacks: ["also-small", "large"],
        fallbackOn: { content_filter: ["lenient"], rate_limit_exceeded: [] },
      }),
    ],
  };
  await start({ baseUrl: place.url }, { snapshot });
  // The other small one has no more room.
  expect((await ask({ model: "auto" })).headers.get("x-switchyard-model")).toBe("large");
  expect(place.asked.map(({ model }) => model)).toEqual(["small", "large"]);
  expect((await ask({ model: "auto" })).headers.get("x-switchyard-model")).toBe("lenient");
  expect(served.accounts.settled.at(-1)?.decision).toMatchObject({
    fallbackOn: { content_filter: ["lenient"], rate_limit_exceeded: [] },
  });
});

test("a prompt that a filter refused is told to be refused, whatever became of those that were asked instead", async () => {
  const place = await startPlace((asked, response) => {
    if (asked.model !== "m") return fail(503)(asked, response);
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message: "no", code: "content_filter" } }));
  });
  const routes = [testRoute("auto", "m", { fallbackOn: { content_filter: ["n"] } })];
  await start(
    { baseUrl: place.url },
    { snapshot: { ...policy, routes }, limits: { retriesMax: 0 } },
  );
  const refused = await ask({ model: "auto" });
  expect([refused.status, await codeOf(refused)]).toEqual([400, "content_filter"]);
  expect(refused.headers.get("x-should-retry")).toBe("false");
  expect(place.asked.map(({ model }) => model)).toEqual(["m", "n"]);
});

test("where a budget has no room for a route's models, those that it names for that are asked", async () => {
  const place = await startPlace();
  const routes = [testRoute("auto", "m", { fallbackOn: { insufficient_quota: ["n"] } })];
  await start({ baseUrl: place.url }, { snapshot: { ...policy, routes } });
  expect((await ask({ model: "auto" })).headers.get("x-switchyard-model")).toBe("m");
  // What is kept for an empty budget is not reserved for while there is room.
  expect(served.accounts.reserved.at(-1)?.models).toEqual([{ model: "m" }]);
  served.accounts.overBudget.add("m");
  expect((await ask({ model: "auto" })).headers.get("x-switchyard-model")).toBe("n");
  expect(served.accounts.reserved.at(-1)?.models).toEqual([{ model: "n" }]);
  expect(served.accounts.settled.at(-1)?.decision).toMatchObject({
    attempts: ["n"],
    overBudget: ["m"],
  });
  served.accounts.overBudget.add("n");
  const refused = await ask({ model: "auto" });
  expect([refused.status, await codeOf(refused)]).toEqual([429, "insufficient_quota"]);
  expect(place.asked.map(({ model }) => model)).toEqual(["m", "n"]);
});

test("an empty list tells the client at once", async () => {
  const place = await startPlace(fail(429, { "retry-after": "9" }));
  const routes = [
    testRoute("auto", "m", { fallbacks: ["n"], fallbackOn: { rate_limit_exceeded: [] } }),
  ];
  await start({ baseUrl: place.url }, { snapshot: { ...policy, routes } });
  expect((await ask({ model: "auto" })).status).toBe(429);
  expect(place.asked.map(({ model }) => model)).toEqual(["m"]);
});

test("who asks for it is told the decision and every call, in headers that any client takes", async () => {
  let failures = 1;
  const place = await startPlace((asked, response) =>
    failures-- > 0 ? fail(503)(asked, response) : answer(asked, response),
  );
  await start({ baseUrl: place.url });
  const plain = await ask();
  expect(plain.headers.has("x-switchyard-tried")).toBe(false);
  failures = 1;
  const told = await ask({ model: "auto" }, { "x-switchyard-explain": "1" });
  expect(JSON.parse(told.headers.get("x-switchyard-tried") ?? "")).toEqual([
    {
      model: "m",
      upstream: "pool",
      ms: expect.any(Number),
      sentMs: expect.any(Number),
      headMs: expect.any(Number),
      error: "upstream_unavailable",
    },
    expect.objectContaining({ model: "m", upstream: "pool", ms: expect.any(Number) }),
  ]);
  expect(JSON.parse(told.headers.get("x-switchyard-decision") ?? "")).toMatchObject({
    requested: "auto",
    attempts: ["m", "n"],
  });
  failures = 100;
  const refused = await ask({}, { "x-switchyard-explain": "1" });
  expect(refused.status).toBe(503);
  expect(JSON.parse(refused.headers.get("x-switchyard-tried") ?? "")).toHaveLength(3);
});
