/** What clients write into requests is never an address that we call, and never a header of ours. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startAnthropicEmulator } from "../test/emulators/anthropic.ts";
import { startBedrockEmulator } from "../test/emulators/bedrock.ts";
import { startCohereEmulator } from "../test/emulators/cohere.ts";
import { startGeminiEmulator } from "../test/emulators/gemini.ts";
import { startOpenAiEmulator } from "../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
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
const formats = ["chat", "responses", "anthropic", "gemini", "bedrock", "cohere"] as const;

/** Nobody is to come here: it stands for all that only this machine reaches. */
const visits: string[] = [];
const inside = createServer((request, response) => {
  visits.push(String(request.url));
  response.writeHead(200, { "content-type": "image/png" }).end("secret");
});
let served: TestGateway;
let url: string;
const cleanUp: (() => Promise<unknown>)[] = [];

const policy = testSnapshot({
  projects: [acme],
  keys: [testKey(apiKey, { projectId: acme.id })],
  models: formats.map((format) => testModel(format, { upstream: format })),
  routes: [testRoute("auto", "chat")],
});

/** One for each format, in their order. */
function upstreamsAt(urls: readonly string[]): UpstreamSettings[] {
  const types = ["openai", "openai", "anthropic", "gemini", "bedrock", "cohere"];
  return formats.map(
    (name, index) =>
      ({
        ...{ name, type: types[index], baseUrl: urls[index], apiKey: "key" },
        ...(name === "responses" && { api: "responses" }),
        ...(name === "bedrock" && { region: "us-east-1" }),
      }) as UpstreamSettings,
  );
}

beforeAll(async () => {
  await new Promise<void>((done) => inside.listen(0, "127.0.0.1", done));
  url = `http://127.0.0.1:${(inside.address() as AddressInfo).port}/latest/meta-data`;
  const emulators = await Promise.all([
    startOpenAiEmulator(),
    startAnthropicEmulator(),
    startGeminiEmulator(),
    startBedrockEmulator(),
    startCohereEmulator(),
  ]);
  const [openAi = "", ...rest] = emulators.map(({ baseUrl }) => baseUrl);
  served = await startTestGateway({
    snapshot: policy,
    upstreams: upstreamsAt([openAi, openAi, ...rest]),
  });
  cleanUp.push(...emulators.map((emulator) => () => emulator.close()), () => served.close());
});
afterAll(async () => {
  for (const close of cleanUp.reverse()) await close();
  inside.close();
});

const post = (path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(served.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}`, ...headers },
    body: JSON.stringify(body),
  });

test.each(formats)("no address in a request is called by us: %s", async (model) => {
  const image = { type: "image_url", image_url: { url } };
  const file = { type: "file", file: { file_data: url, filename: "x.pdf" } };
  const mcp = { type: "mcp", server_label: "s", server_url: url };
  const asked: [string, object][] = [
    ...[image, file].map((part): [string, object] => [
      "/v1/chat/completions",
      { model, messages: [{ role: "user", content: [part, { type: "text", text: url }] }] },
    ]),
    [
      "/v1/chat/completions",
      { model, messages: [{ role: "user", content: "x" }], webhook: url, base_url: url },
    ],
    ...[
      { type: "input_image", image_url: url },
      { type: "input_file", file_url: url },
    ].map((part): [string, object] => [
      "/v1/responses",
      { model, store: false, tools: [mcp], input: [{ role: "user", content: [part] }] },
    ]),
    ...["image", "document"].map((type): [string, object] => [
      "/v1/messages",
      {
        model,
        max_tokens: 9,
        messages: [{ role: "user", content: [{ type, source: { type: "url", url } }] }],
        mcp_servers: [{ type: "url", url, name: "s" }],
      },
    ]),
    [
      `/v1beta/models/${model}:generateContent`,
      {
        contents: [
          { role: "user", parts: [{ fileData: { fileUri: url, mimeType: "image/png" } }] },
        ],
      },
    ],
    [
      `/model/${model}/converse`,
      {
        messages: [
          {
            role: "user",
            content: [{ image: { format: "png", source: { s3Location: { uri: url } } } }],
          },
        ],
      },
    ],
  ];
  for (const [path, body] of asked) {
    const response = await post(path, body);
    expect(await response.text()).not.toContain("secret");
  }
  expect(visits).toEqual([]);
});

test.each(formats)(
  "no redirect of an upstream is followed, with our credentials least of all: %s",
  async (format) => {
    const arrived: string[] = [];
    const leading = createServer((request, response) => {
      arrived.push(String(request.url));
      response.writeHead(Number(status), { location: url }).end();
    });
    await new Promise<void>((done) => leading.listen(0, "127.0.0.1", done));
    const baseUrl = `http://127.0.0.1:${(leading.address() as AddressInfo).port}`;
    const [settings] = upstreamsAt([baseUrl, baseUrl, baseUrl, baseUrl, baseUrl, baseUrl]).filter(
      ({ name }) => name === format,
    );
    const gateway = await startTestGateway({
      snapshot: policy,
      upstreams: [settings as UpstreamSettings],
      limits: { retriesMax: 0, breakerFailures: 1000 },
    });
    let status = 0;
    try {
      for (status of [301, 302, 303, 307, 308]) {
        for (const stream of [false, true]) {
          const response = await fetch(`${gateway.url}/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
            body: JSON.stringify({
              ...{ model: format, stream, messages: [{ role: "user", content: "x" }] },
            }),
          });
          const text = await response.text();
          expect([status, response.status]).toEqual([status, 502]);
          expect(text).toContain("upstream_error");
          expect(text).not.toContain("secret");
        }
      }
      expect(arrived).toHaveLength(10);
      expect(visits).toEqual([]);
    } finally {
      await gateway.close();
      leading.close();
      leading.closeAllConnections();
    }
  },
);

test("names and tags cannot become headers", async () => {
  const evil = "x\r\nset-cookie: a=b\r\n\r\nHTTP/1.1 200 OK";
  const messages = [{ role: "user", content: "Hi" }];
  const bodies = [
    { model: evil, messages },
    { model: "auto", messages, metadata: { task: evil } },
    { model: "chat", messages, user: evil, prompt_cache_key: evil, [evil]: 1 },
    { model: "anthropic", messages, [evil]: 1, logit_bias: {}, seed: 1 },
    { model: "gemini", messages, tools: [{ type: "function", function: { name: evil } }] },
  ];
  for (const body of bodies) {
    const response = await post("/v1/chat/completions", body, { "x-switchyard-explain": "1" });
    expect(response.headers.has("set-cookie")).toBe(false);
    expect(response.status).toBeLessThan(500);
    await response.text();
  }
  for (const model of [evil, "anthropic"]) {
    const path = `/v1beta/models/${encodeURIComponent(model)}:generateContent`;
    const response = await post(path, { contents: [{ parts: [{ text: "x" }] }], [evil]: 1 });
    expect(response.headers.has("set-cookie")).toBe(false);
    expect(response.status).toBeLessThan(500);
  }
});

test("a header that is broken off by a line's end is no request of ours", async () => {
  const body = JSON.stringify({ model: "chat", messages: [{ role: "user", content: "Hi" }] });
  for (const name of ["x-switchyard-tags", "x-switchyard-task", "idempotency-key"]) {
    const { port } = new URL(served.url);
    const socket = connect(Number(port), "127.0.0.1");
    let answer = "";
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString();
    });
    socket.end(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${apiKey}\r\ncontent-type: application/json\r\n` +
        `${name}: team=a\nset-cookie: b=c\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await new Promise((done) => socket.on("close", done));
    expect(answer).not.toMatch(/^set-cookie/im);
  }
});
