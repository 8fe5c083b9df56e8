/** What a provider's filter stops inside an answer of status 200 is asked of another model, whatever both sides speak. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startOpenAiEmulator } from "../emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../support/policy.ts";
import type { Dialect, Upstream } from "./driver.ts";
import type { Heard, Said } from "./neutral.ts";
import { dialects } from "./stage.ts";
import { anthropicKey, startAnthropic } from "./upstreams/anthropic.ts";
import { bedrockKey, startBedrock } from "./upstreams/bedrock.ts";
import { cohereKey, startCohere } from "./upstreams/cohere.ts";
import { geminiKey, startGemini } from "./upstreams/gemini.ts";
import { openAiKey, startOpenAi } from "./upstreams/openai.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const fromTheHouse = "From the house.";
const project = testProject("acme");
let strictUrl: string;
let upstreams: readonly Upstream[];
let served: TestGateway;
/** What the strict upstream of one's own says, piece by piece. */
let speak: (response: ServerResponse) => Promise<void>;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const [chat, responses, claude, google, aws, cohere] = await Promise.all([
    startOpenAi("chat"),
    startOpenAi("responses"),
    startAnthropic(),
    startGemini(),
    startBedrock(),
    startCohere(),
  ]);
  upstreams = [chat, responses, claude, google, aws, cohere];
  const house = await startOpenAiEmulator({ answer: () => fromTheHouse });
  const strict = createServer((_, response) => void speak(response));
  await new Promise<void>((resolve) => strict.listen(0, "127.0.0.1", resolve));
  strictUrl = `http://127.0.0.1:${(strict.address() as AddressInfo).port}`;
  const openAi = { type: "openai" as const, apiKey: openAiKey };
  const settings = [
    { ...openAi, baseUrl: chat.baseUrl },
    { ...openAi, api: "responses" as const, baseUrl: responses.baseUrl },
    { type: "anthropic" as const, baseUrl: claude.baseUrl, apiKey: anthropicKey },
    { type: "gemini" as const, baseUrl: google.baseUrl, apiKey: geminiKey },
    { type: "bedrock" as const, region: "eu-west-1", baseUrl: aws.baseUrl, apiKey: bedrockKey },
    { type: "cohere" as const, baseUrl: cohere.baseUrl, apiKey: cohereKey },
    { ...openAi, baseUrl: strictUrl },
  ];
  const names = [...upstreams.map((_, at) => `model-${at}`), "strict"];
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project],
      keys: [testKey(apiKey, { projectId: project.id })],
      models: [
        ...names.map((name, at) =>
          testModel(name, {
            upstream: `up-${at}`,
            upstreamModel: upstreams[at]?.model(undefined) ?? "m",
          }),
        ),
        testModel("house", { upstream: "house" }),
        testModel("ruin", { upstream: "ruin", upstreamModel: "house!status:503" }),
      ],
      routes: names.flatMap((name) => [
        testRoute(`route-${name}`, name, { fallbackOn: { content_filter: ["house"] } }),
        testRoute(`doomed-${name}`, name, { fallbackOn: { content_filter: ["ruin"] } }),
      ]),
      prices: testPrices("house", { input: "0.001", output: "0.001" }),
    }),
    upstreams: [
      ...settings.map((one, at) => ({ name: `up-${at}`, ...one })),
      { name: "house", type: "openai", baseUrl: house.baseUrl },
      { name: "ruin", type: "openai", baseUrl: house.baseUrl },
    ],
    limits: { retriesMax: 0, breakerFailures: 1000 },
  });
  cleanUp.push(
    () => served.close(),
    () => house.close(),
    async () => strict.closeAllConnections(),
    async () => strict.close(),
    ...upstreams.map((one) => () => one.close()),
  );
});
afterAll(async () => {
  for (const close of cleanUp) await close();
});

type Asking = { dialect: Dialect; upstream: Upstream; stream: boolean; said: Said };

async function ask(
  { dialect, upstream, stream, said }: Asking,
  route: "route" | "doomed" | "none" = "route",
): Promise<Heard> {
  upstream.prepare([said]);
  const name = `model-${upstreams.indexOf(upstream)}`;
  const client = dialect.connect({ url: served.url, apiKey });
  return client.ask(
    {
      turns: [{ role: "user", parts: [{ type: "text", text: "How do I …?" }] }],
      outputTokensMax: 64,
    },
    { model: route === "none" ? name : `${route}-${name}`, stream },
  );
}

test("an answer of which a filter left nothing is asked of another model, in every dialect, of every provider", async () => {
  const usage = { input: 11, output: 0 };
  for (const upstream of upstreams) {
    for (const dialect of dialects) {
      for (const stream of [false, true]) {
        const cell = `${dialect.name} → ${upstream.name}${stream ? ", streamed" : ""}`;
        const heard = await ask({
          dialect,
          upstream,
          stream,
          said: { end: "content_filter", usage },
        });
        expect([cell, heard.text, heard.finish]).toEqual([cell, fromTheHouse, dialect.ends.stop]);
        const settled = served.accounts.settled.at(-1);
        // What the refusing provider charges is nobody's answer, and is on the operator's books.
        expect(settled, cell).toMatchObject({
          answered: { model: "house" },
          unanswered: [{ upstream: `up-${upstreams.indexOf(upstream)}`, usage: { input: 11 } }],
          decision: { tried: [{ error: "content_filter", mayCost: true }, { model: "house" }] },
        });
        expect(settled?.unanswered?.[0], cell).not.toHaveProperty("estimated");
      }
    }
  }
});

test("where those that are asked instead fail, what the filter left is the answer, and is paid for as one", async () => {
  const usage = { input: 11, output: 0 };
  for (const upstream of upstreams) {
    for (const dialect of dialects) {
      for (const stream of [false, true]) {
        const cell = `${dialect.name} → ${upstream.name}${stream ? ", streamed" : ""}`;
        const said: Said = { end: "content_filter", usage };
        const heard = await ask({ dialect, upstream, stream, said }, "doomed");
        expect([cell, heard.finish]).toEqual([cell, dialect.ends.content_filter]);
        const settled = served.accounts.settled.at(-1);
        const name = `model-${upstreams.indexOf(upstream)}`;
        expect(settled, cell).toMatchObject({
          outcome: "ok",
          answered: { model: name },
          usage: { input: 11 },
          decision: {
            tried: [
              { model: name, error: "content_filter" },
              { model: "ruin", error: "upstream_unavailable" },
            ],
          },
        });
        expect(settled, cell).not.toHaveProperty("unanswered");
        expect(settled?.decision, cell).not.toHaveProperty("tried.0.mayCost");
      }
    }
  }
});

test("without such a route the answer passes, as its provider cut it off", async () => {
  for (const upstream of upstreams) {
    for (const dialect of dialects) {
      const said: Said = { text: "First", end: "content_filter" };
      const heard = await ask({ dialect, upstream, stream: true, said }, "none");
      expect([heard.text, heard.finish]).toEqual(["First", dialect.ends.content_filter]);
    }
  }
});

test("a whole answer that a filter cut off falls back too, for nobody has seen its beginning", async () => {
  for (const upstream of upstreams) {
    const [dialect] = dialects as [Dialect];
    const said: Said = { text: "First", end: "content_filter" };
    expect((await ask({ dialect, upstream, stream: false, said })).text).toBe(fromTheHouse);
  }
});

const chunk = (delta: object, finish_reason: string | null = null, index = 0) =>
  `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index, delta, finish_reason }] })}\n\n`;

async function streamOfStrict(
  url = served.url,
  signal?: AbortSignal,
): Promise<ReadableStreamDefaultReader<Uint8Array>> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    signal: signal ?? null,
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify({
      model: "route-strict",
      stream: true,
      messages: [{ role: "user", content: "x" }],
    }),
  });
  return (response.body as ReadableStream<Uint8Array>).getReader();
}

async function restOf(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  let text = "";
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    text += new TextDecoder().decode(next.value);
  }
  return text;
}

test("what was begun in front of the client is not begun again by another model", async () => {
  let heard = (): void => {};
  const wasHeard = new Promise<void>((resolve) => {
    heard = resolve;
  });
  speak = async (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk({ role: "assistant", content: "" }));
    response.write(chunk({ content: "First" }));
    await wasHeard;
    response.end(`${chunk({}, "content_filter")}data: [DONE]\n\n`);
  };
  const reader = await streamOfStrict();
  expect(new TextDecoder().decode((await reader.read()).value)).toContain("First");
  heard();
  const rest = await restOf(reader);
  expect(rest).toContain('"finish_reason":"content_filter"');
  expect(rest).not.toContain("house");
});

test("of several choices one that was not filtered is an answer", async () => {
  speak = async (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk({ role: "assistant", content: "" }));
    response.write(chunk({}, "content_filter", 0));
    response.write(chunk({ content: "Second" }, null, 1));
    response.end(`${chunk({}, "stop", 1)}data: [DONE]\n\n`);
  };
  const text = await restOf(await streamOfStrict());
  expect(text).toContain("Second");
  expect(text).not.toContain("house");
});

/** A gateway that holds streams for a moment, whose strict model falls back to one of its own. */
async function withFallback<T>(
  fallback: (response: ServerResponse) => void,
  use: (gateway: TestGateway) => Promise<T>,
): Promise<T> {
  const other = createServer((_, response) => fallback(response));
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const { port } = other.address() as AddressInfo;
  const gateway = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project],
      keys: [testKey(apiKey, { projectId: project.id })],
      models: [
        testModel("strict", { upstream: "strict" }),
        testModel("other", { upstream: "other" }),
      ],
      routes: [testRoute("route-strict", "strict", { fallbackOn: { content_filter: ["other"] } })],
    }),
    upstreams: [
      { name: "strict", type: "openai", baseUrl: strictUrl },
      { name: "other", type: "openai", baseUrl: `http://127.0.0.1:${port}` },
    ],
    limits: { streamHoldMs: 20 },
  });
  try {
    return await use(gateway);
  } finally {
    await gateway.close();
    other.close();
    other.closeAllConnections();
  }
}

/** A stream that its filter has stopped and that goes on. @returns when it is let go */
function openFiltered(response: ServerResponse): Promise<unknown> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(chunk({ role: "assistant", content: "" }));
  response.write(chunk({}, "content_filter"));
  return new Promise((resolve) => response.once("close", resolve));
}

test("a stream that its filter stopped and nobody ended goes on in front of the client, when no other model answers", async () => {
  let goOn = (): void => {};
  speak = async (response) => {
    void openFiltered(response);
    goOn = () => response.end("data: [DONE]\n\n");
  };
  const lost = (response: ServerResponse) => {
    response.writeHead(404).end("{}");
    goOn();
  };
  await withFallback(lost, async (gateway) => {
    const text = await restOf(await streamOfStrict(gateway.url));
    expect(text).toContain('"finish_reason":"content_filter"');
    expect(text.match(/\[DONE\]/g)).toHaveLength(1);
    await gateway.accounts.untilSettled(1);
    expect(gateway.accounts.settled.at(-1)).toMatchObject({
      outcome: "ok",
      answered: { model: "strict" },
    });
  });
});

test("such a stream is let go when another model answers, and when its client leaves meanwhile", async () => {
  let letGo: Promise<unknown> = Promise.resolve();
  speak = async (response) => {
    letGo = openFiltered(response);
  };
  let isAsked = () => {};
  const asked = new Promise<void>((resolve) => {
    isAsked = resolve;
  });
  const answering = (response: ServerResponse) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`${chunk({ content: "Other" })}${chunk({}, "stop")}data: [DONE]\n\n`);
  };
  await withFallback(answering, async (gateway) => {
    expect(await restOf(await streamOfStrict(gateway.url))).toContain("Other");
    await letGo;
  });
  await withFallback(isAsked, async (gateway) => {
    const client = new AbortController();
    const asking = streamOfStrict(gateway.url, client.signal);
    await asked;
    client.abort();
    await expect(asking).rejects.toThrow();
    await letGo;
    await gateway.accounts.untilSettled(1);
    expect(gateway.accounts.settled.at(-1)).toMatchObject({ outcome: "client_gone" });
  });
});
