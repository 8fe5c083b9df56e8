/** Each of the four times that an upstream is given: what its client is told, what becomes of the upstream, and who is asked instead. */
import { createServer, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { ErrorBody } from "../sdk/protocol/errors.ts";
import { startOpenAiEmulator } from "../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testProject,
  testRoute,
  testSnapshot,
} from "../test/support/policy.ts";

const acme = testProject("acme");
const apiKey = "sk-sy-key-of-the-acme-project";
const chunk = (content: string) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { role: "assistant", content } }] })}\n\n`;

/** What the upstream does, by the model's name there. */
const acts: Record<string, (response: ServerResponse) => void> = {
  /** No byte of an answer. */
  first: () => {},
  /** A word, and then nothing. */
  idle: (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk("a word"));
  },
  /** Word after word, without end. */
  total: (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk("a word"));
    const timer = setInterval(() => response.write(chunk(" and one more")), 5);
    response.on("close", () => clearInterval(timer));
  },
  /** Spaces before JSON, without end. */
  trickle: (response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const timer = setInterval(() => response.write(" "), 5);
    response.on("close", () => clearInterval(timer));
  },
};
let open = 0;
const upstream = createServer((request, response) => {
  open++;
  response.on("close", () => open--);
  request.on("data", (body: Buffer) => acts[JSON.parse(String(body)).model]?.(response));
});
/** Takes connections, and never says a word of TLS. */
const mute = createTcpServer((socket) => socket.on("error", () => {}));
let served: TestGateway;
const cleanUp: (() => Promise<unknown> | unknown)[] = [];

beforeAll(async () => {
  for (const server of [upstream, mute]) {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanUp.push(() => server.close());
  }
  cleanUp.push(() => upstream.closeAllConnections());
  const portOf = (server: typeof mute) => (server.address() as AddressInfo).port;
  const emulator = await startOpenAiEmulator({ answer: () => "From elsewhere." });
  cleanUp.push(() => emulator.close());
  const openAi = { type: "openai" as const, baseUrl: `http://127.0.0.1:${portOf(upstream)}` };
  const names = ["connect", ...Object.keys(acts)];
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [...names, "elsewhere"].map((name) => testModel(name, { upstream: name })),
      routes: [
        ...names.map((name) => testRoute(`safe-${name}`, name, { fallbacks: ["elsewhere"] })),
        testRoute("twice", "trickle", { fallbacks: ["total"] }),
      ],
    }),
    upstreams: [
      {
        ...{ ...openAi, name: "connect", baseUrl: `https://127.0.0.1:${portOf(mute)}` },
        connectTimeoutMs: 100,
      },
      { ...openAi, name: "first", firstByteTimeoutMs: 100 },
      { ...openAi, name: "idle", idleTimeoutMs: 100 },
      { ...openAi, name: "total", totalTimeoutMs: 1500 },
      { ...openAi, name: "trickle", totalTimeoutMs: 1500 },
      { ...openAi, name: "elsewhere", baseUrl: emulator.baseUrl },
    ],
    limits: { retriesMax: 0, breakerFailures: 1000 },
  });
  cleanUp.push(() => served.close());
});
afterAll(async () => {
  for (const close of cleanUp.reverse()) await close();
});
beforeEach(() => {
  served.accounts.settled.length = 0;
});

const ask = (model: string, stream: boolean) =>
  fetch(`${served.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify({ model, stream, messages: [{ role: "user", content: "Hi" }] }),
  });

async function untilLetGo(): Promise<void> {
  while (open > 0) await new Promise((resolve) => setTimeout(resolve, 1));
}

test.each([
  ["connect", "could not be connected to in time"],
  ["first", "did not deliver the first byte within 100 ms"],
  ["trickle", "did not deliver a whole answer within"],
])(
  "before an answer (%s) the client is told 504, and the upstream is let go",
  async (model, message) => {
    const response = await ask(model, false);
    const { error } = (await response.json()) as ErrorBody;
    expect([response.status, error.code]).toEqual([504, "upstream_timeout"]);
    expect(error.message).toContain(message);
    expect(served.accounts.settled).toMatchObject([
      { outcome: "upstream_failed", errorCode: "upstream_timeout" },
    ]);
    await untilLetGo();
  },
);

test.each([
  ["idle", "did not deliver the next byte within 100 ms"],
  ["total", "did not deliver a whole answer within"],
])(
  "in the middle of a stream (%s) the client is told by its last event, and the upstream is let go",
  async (model, message) => {
    const text = await (await ask(model, true)).text();
    expect(text).toContain("a word");
    expect(text).not.toContain("[DONE]");
    const last = text.trim().split("\n\n").at(-1) ?? "";
    expect(JSON.parse(last.slice("data: ".length))).toMatchObject({
      error: { code: "upstream_timeout", message: expect.stringContaining(message) },
    });
    await served.accounts.untilSettled(1);
    expect(served.accounts.settled).toMatchObject([
      { outcome: "upstream_failed", errorCode: "upstream_timeout" },
    ]);
    await untilLetGo();
  },
);

test.each(["connect", "first"])(
  "another model is asked where one has not begun in time (%s)",
  async (model) => {
    for (const stream of [false, true]) {
      const response = await ask(`safe-${model}`, stream);
      expect(response.headers.get("x-switchyard-model")).toBe("elsewhere");
      expect(await response.text()).toContain("elsewhere");
    }
    await untilLetGo();
  },
);

test("a total time runs from the request's beginning, so that fallbacks make no request longer", async () => {
  const response = await ask("twice", false);
  const { error } = (await response.json()) as ErrorBody;
  // What is left when the first has used it up is nothing.
  expect([response.status, error.code]).toEqual([504, "upstream_timeout"]);
  expect(error.message).toContain("within 0 ms");
  expect(served.accounts.settled.at(-1)?.decision).toMatchObject({
    tried: [{ model: "trickle" }, { model: "total" }],
  });
  await untilLetGo();
});
