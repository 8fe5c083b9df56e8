/** Realtime sessions through the gateway, with OpenAI's own client against an emulated OpenAI. */
import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import type { Meter } from "../../sdk/protocol/usage.ts";
import {
  type RealtimeEmulator,
  realtimeUsage,
  startRealtimeEmulator,
} from "../../test/emulators/openai-realtime.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../test/support/policy.ts";

const key = "sk-sy-realtime-key-of-the-tests";
const project = testProject("voice");

const prices: Record<string, Partial<Record<Meter, string>>> = {
  "gpt-realtime": {
    input: "0.000004",
    cache_read: "0.0000004",
    input_audio: "0.000032",
    output: "0.000016",
    output_audio: "0.000064",
  },
  whisper: { audio_ms: "0.0000001" },
};

let emulator: RealtimeEmulator;
let gateway: TestGateway;
const sockets: WebSocket[] = [];
beforeAll(async () => {
  emulator = await startRealtimeEmulator();
});
afterAll(() => emulator?.close());
beforeEach(() => restart({}));

function policy() {
  const fault = (name: string) => testModel(name, { upstreamModel: `up!${name}` });
  return testSnapshot({
    projects: [project],
    keys: [testKey(key, { projectId: project.id })],
    models: [
      testModel("gpt-realtime", { upstreamModel: "up" }),
      ...["cut", "hang", "mute", "stall", "deaf", "expire", "refuse", "no-usage"].map(fault),
      testModel("whisper", { upstreamModel: "whisper-1" }),
      testModel("claude", { upstream: "anthropic" }),
    ],
    prices: Object.entries(prices).flatMap(([model, meters]) =>
      Object.entries(meters).map(([meter, usdPerToken]) => ({
        ...{ id: newId("price"), model, meter: meter as Meter, usdPerToken, source: "test" },
        validFrom: "2026-01-01T00:00:00.000Z",
        recordedAt: "2026-01-01T00:00:00.000Z",
      })),
    ),
  });
}

async function restart(
  limits: NonNullable<Parameters<typeof startTestGateway>[0]["limits"]>,
  snapshot = policy(),
): Promise<void> {
  await gateway?.close();
  emulator.asked.length = 0;
  emulator.events.length = 0;
  gateway = await startTestGateway({
    snapshot,
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: emulator.baseUrl, apiKey: "sk-media" },
      { name: "anthropic", type: "anthropic", baseUrl: "http://127.0.0.1:9", apiKey: "sk" },
    ],
    limits: { realtimeEventBytesMax: 100_000, ...limits },
  });
}

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate();
  await gateway?.close();
});

test("OpenAI's client talks, and each response is settled before it is done", async () => {
  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key });
  const { hostname, port } = new URL(gateway.url);
  // The client insists on TLS, which stands before a gateway and is none of its own.
  const options = { createConnection: () => connect(Number(port), hostname) };
  const session = new OpenAIRealtimeWS({ model: "gpt-realtime", options }, client);
  const types: string[] = [];
  const done = new Promise<void>((resolve, reject) => {
    session.on("error", reject);
    session.on("event", ({ type }) => types.push(type));
    session.on("session.created", () => {
      session.send({
        type: "session.update",
        session: { type: "realtime", model: "gpt-realtime" },
      });
      session.send({ type: "response.create" });
    });
    session.on("response.done", ({ response }) => {
      expect(response.usage).toEqual(realtimeUsage);
      expect(gateway.accounts.settled).toHaveLength(1);
      resolve();
    });
  });
  await done;
  session.close();
  expect(gateway.accounts.settled[0]).toMatchObject({
    outcome: "ok",
    estimated: false,
    answered: { model: "gpt-realtime", upstream: "emulated" },
    usage: { input: 55, cache_read: 64, input_audio: 13, output: 30, output_audio: 91 },
  });
  expect(types).toContain("response.output_audio.delta");
  expect(types).not.toContain("rate_limits.updated");
  expect(emulator.asked[0]?.url).toBe("/v1/realtime?model=up");
  expect(emulator.events[0]).toMatchObject({ session: { model: "up" } });
});

test("a session that asked for nothing costs nothing, and gives back what it held", async () => {
  const { socket } = await open("gpt-realtime");
  expect(gateway.accounts.reserved).toHaveLength(1);
  socket.close();
  await until(() => gateway.accounts.released === 1);
  expect(gateway.accounts.settled).toEqual([]);
});

test("responses that the server begins by itself are reserved and settled, and transcripts by their own model", async () => {
  const { socket, events } = await open("gpt-realtime");
  const transcription = { model: "whisper" };
  send(socket, {
    type: "session.update",
    session: { type: "realtime", audio: { input: { transcription } } },
  });
  send(socket, { type: "input_audio_buffer.append", audio: Buffer.alloc(4800).toString("base64") });
  send(socket, { type: "input_audio_buffer.commit" });
  send(socket, { type: "input_audio_buffer.commit" });
  await until(() => events.filter(({ type }) => type === "response.done").length === 2);
  expect(emulator.events[0]).toMatchObject({
    session: { audio: { input: { transcription: { model: "whisper-1" } } } },
  });
  const { settled } = gateway.accounts;
  expect(settled.filter(({ answered }) => answered?.model === "gpt-realtime")).toHaveLength(2);
  expect(settled.filter(({ answered }) => answered?.model === "whisper")).toMatchObject([
    { usage: { audio_ms: 2000 }, estimated: false },
    { usage: { audio_ms: 2000 }, estimated: false },
  ]);
});

test.each([
  ["a model that is not there", { model: "nobody" }, "model_not_found"],
  ["a model of another upstream", { model: "claude" }, "unsupported_model"],
])("transcripts by %s are refused, and the session goes on", async (_, transcription, code) => {
  const { socket, events } = await open("gpt-realtime");
  send(socket, {
    ...{ type: "session.update", event_id: "mine" },
    session: { audio: { input: { transcription } } },
  });
  await until(() => events.some(({ type }) => type === "error"));
  expect(events.at(-1)).toMatchObject({ error: { code, event_id: "mine" } });
  send(socket, { type: "response.create" });
  await until(() => events.some(({ type }) => type === "response.done"));
  expect(emulator.events).toMatchObject([{ type: "response.create" }]);
});

test("a client that sends an event in pieces and never ends it is told so and left", async () => {
  await restart({ socketMessageTimeoutMs: 100 });
  const { socket, events } = await open("gpt-realtime");
  const closed = once(socket, "close");
  // Whole events may come as slowly as they like.
  send(socket, { type: "response.create" });
  await until(() => events.some(({ type }) => type === "response.done"));
  socket.send('{"type":', { fin: false });
  const [code, reason] = await closed;
  expect([code, String(reason)]).toEqual([1008, "request_timeout"]);
  expect(events.at(-1)).toMatchObject({ type: "error", error: { code: "request_timeout" } });
});

test("a session that has lasted as long as it may is closed as OpenAI closes its own", async () => {
  await restart({ realtimeSessionMs: 500 });
  const { socket, events } = await open("gpt-realtime");
  const [code, reason] = await once(socket, "close");
  expect([code, String(reason)]).toEqual([1001, "session_expired"]);
  expect(events.at(-1)).toMatchObject({ type: "error", error: { code: "session_expired" } });
});

test("a session keeps its model", async () => {
  const { socket, events } = await open("gpt-realtime");
  send(socket, { type: "session.update", session: { model: "whisper-1" } });
  await until(() => events.some(({ type }) => type === "error"));
  expect(events.at(-1)).toMatchObject({ error: { param: "session.model" } });
  expect(emulator.events).toEqual([]);
});

test("when the budget is used up the client is told, and the session is closed", async () => {
  const { socket, events } = await open("gpt-realtime");
  const closed = once(socket, "close");
  gateway.accounts.reserve = async () => {
    throw new HubError("insufficient_quota", "The budget of project 'voice' is used up.");
  };
  send(socket, { type: "response.create" });
  const [code] = await closed;
  expect(code).toBe(1008);
  const types = events.map(({ type }) => type);
  expect(types.slice(-2)).toEqual(["response.done", "error"]);
  expect(events.at(-1)).toMatchObject({ error: { code: "insufficient_quota" } });
  expect(gateway.accounts.settled).toHaveLength(1);
  await until(() => emulator.open() === 0);
});

test("a key that is revoked passes nothing more, also in a session that is silent", async () => {
  const snapshot = policy();
  const revoke = async () => {
    const [own] = snapshot.keys;
    gateway.registry.publish({
      ...snapshot,
      version: snapshot.version + 1,
      keys: [{ ...own, revokedAt: new Date().toISOString() } as (typeof snapshot.keys)[number]],
    });
    await until(async () => {
      const models = await fetch(`${gateway.url}/v1/models`, {
        headers: { authorization: `Bearer ${key}` },
      });
      return models.status === 401;
    });
  };
  await restart({ keepAliveMs: 1000 }, snapshot);
  const talking = await open("gpt-realtime");
  const silent = await open("gpt-realtime");
  const closed = [once(talking.socket, "close"), once(silent.socket, "close")];
  await revoke();
  send(talking.socket, { type: "response.create" });
  expect((await Promise.all(closed)).map(([code]) => code)).toEqual([1008, 1008]);
  for (const { events } of [talking, silent]) {
    expect(events.at(-1)).toMatchObject({ error: { code: "invalid_api_key" } });
  }
  expect(emulator.events).toEqual([]);
  expect(gateway.accounts.settled).toEqual([]);
  await until(() => emulator.open() === 0);
});

test("a session asks for a bounded number of responses, and a project has a bounded number of sessions", async () => {
  await restart({ realtimeResponsesMax: 2, realtimeSessionsPerProjectMax: 2 });
  const { socket, events } = await open("hang");
  for (let i = 0; i < 4; i++) send(socket, { type: "response.create", event_id: `e${i}` });
  const errors = () => events.filter(({ type }) => type === "error");
  await until(() => errors().length === 2);
  expect(errors()).toMatchObject([
    { error: { code: "rate_limit_exceeded", event_id: "e2" } },
    { error: { code: "rate_limit_exceeded", event_id: "e3" } },
  ]);
  expect(emulator.events).toHaveLength(2);

  const second = await open("gpt-realtime");
  const refused = new WebSocket(urlOf("gpt-realtime"), {
    headers: { authorization: `Bearer ${key}` },
  });
  refused.on("error", () => {});
  const [, { statusCode }] = (await once(refused, "unexpected-response")) as [
    unknown,
    { statusCode: number },
  ];
  expect(statusCode).toBe(429);
  second.socket.close();
  await until(() =>
    open("gpt-realtime").then(
      () => true,
      () => false,
    ),
  );
});

test.each([
  ["breaks off", "cut"],
  ["answers no ping", "deaf"],
])("an upstream that %s is told, and what was said is estimated", async (_, model) => {
  await restart({ keepAliveMs: 1000 });
  const { socket, events } = await open(model);
  const closed = once(socket, "close");
  send(socket, { type: "response.create" });
  const [code] = await closed;
  expect(code).toBe(1011);
  expect(events.at(-1)).toMatchObject({ type: "error", error: { code: "upstream_error" } });
  await gateway.accounts.untilSettled(1);
  expect(gateway.accounts.settled[0]).toMatchObject({
    ...{ outcome: "upstream_failed", estimated: true },
    usage: { output_audio: 4, output: 4 },
  });
});

test.each([
  ["begins an event and stalls", "stall", { socketMessageTimeoutMs: 300 }],
  ["goes on with nothing that it began", "hang", { idleTimeoutMs: 300 }],
])("an upstream that %s is left, and what was said is estimated", async (_, model, limits) => {
  await restart(limits);
  const { socket, events } = await open(model);
  const closed = once(socket, "close");
  send(socket, { type: "response.create" });
  const [code, reason] = await closed;
  expect([code, String(reason)]).toEqual([1011, "upstream_timeout"]);
  expect(events.at(-1)).toMatchObject({ type: "error", error: { code: "upstream_timeout" } });
  await gateway.accounts.untilSettled(1);
  expect(gateway.accounts.settled[0]).toMatchObject({
    ...{ outcome: "upstream_failed", estimated: true },
    usage: { output_audio: 4, output: 4 },
  });
  await until(() => emulator.open() === 0);
});

test("an upstream that does not begin what it is asked for is left, and nothing is held for it", async () => {
  await restart({ firstByteTimeoutMs: 500 });
  const { socket, events } = await open("mute");
  const closed = once(socket, "close");
  send(socket, { type: "response.create" });
  expect((await closed)[0]).toBe(1011);
  expect(events.at(-1)).toMatchObject({ error: { code: "upstream_timeout" } });
  await until(() => gateway.accounts.released === gateway.accounts.reserved.length);
  expect(gateway.accounts.settled).toEqual([]);
  await until(() => emulator.open() === 0);
});

test("a session of which nothing is asked may be silent for as long as it likes", async () => {
  await restart({ idleTimeoutMs: 500, firstByteTimeoutMs: 500, realtimeSessionMs: 1500 });
  const { socket, events } = await open("gpt-realtime");
  send(socket, { type: "response.create" });
  const [code] = await once(socket, "close");
  expect(code).toBe(1001);
  expect(events.filter(({ type }) => type === "error")).toMatchObject([
    { error: { code: "session_expired" } },
  ]);
  expect(gateway.accounts.settled).toMatchObject([{ outcome: "ok" }]);
});

test("a session that its upstream let last long enough is closed as it was there", async () => {
  const { socket } = await open("expire");
  const closed = once(socket, "close");
  send(socket, { type: "response.create" });
  expect((await closed)[0]).toBe(1001);
  await gateway.accounts.untilSettled(1);
});

test("a client that leaves in the middle is settled for what was said", async () => {
  const { socket, events } = await open("hang");
  send(socket, { type: "response.create" });
  await until(
    () => events.filter(({ type }) => type === "response.output_audio.delta").length === 2,
  );
  socket.terminate();
  await gateway.accounts.untilSettled(1);
  expect(gateway.accounts.settled[0]).toMatchObject({ outcome: "client_gone", estimated: true });
  await until(() => emulator.open() === 0);
});

test("a response without usage is estimated and not free", async () => {
  const { socket, events } = await open("no-usage");
  send(socket, { type: "response.create" });
  await until(() => events.some(({ type }) => type === "response.done"));
  expect(gateway.accounts.settled[0]).toMatchObject({
    ...{ outcome: "ok", estimated: true },
    usage: { output_audio: 4 },
  });
});

test.each([
  ["no key", "gpt-realtime", {}, 401, "missing_api_key"],
  ["no model", "", { authorization: `Bearer ${key}` }, 400, "missing_required_parameter"],
  ["an unknown model", "nobody", { authorization: `Bearer ${key}` }, 404, "model_not_found"],
  [
    "a provider without sessions",
    "claude",
    { authorization: `Bearer ${key}` },
    400,
    "unsupported_model",
  ],
  [
    "an upstream that refuses",
    "refuse",
    { authorization: `Bearer ${key}` },
    503,
    "upstream_unavailable",
  ],
])("%s opens no session", async (_, model, headers, status, code) => {
  const socket = new WebSocket(urlOf(model), { headers });
  const [, response] = await once(socket, "unexpected-response");
  expect(response.statusCode).toBe(status);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  expect(JSON.parse(Buffer.concat(chunks).toString())).toMatchObject({ error: { code } });
});

test("a handshake that is none leaves nothing open at the upstream, and nothing reserved", async () => {
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    `GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
      "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n",
  );
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
  await until(() => gateway.accounts.released === 1);
  await until(() => emulator.open() === 0);
});

test("what is reserved for a transcriber while the client leaves is given back", async () => {
  const { socket } = await open("gpt-realtime");
  const reserve = gateway.accounts.reserve.bind(gateway.accounts);
  let asked = false;
  let goOn = () => {};
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  gateway.accounts.reserve = async (request) => {
    asked = true;
    await gate;
    return reserve(request);
  };
  send(socket, {
    type: "session.update",
    session: { audio: { input: { transcription: { model: "whisper" } } } },
  });
  await until(() => asked);
  socket.terminate();
  await until(() => gateway.accounts.released === 1);
  goOn();
  await until(() => gateway.accounts.released === 2);
  expect(gateway.accounts.reserved).toHaveLength(2);
});

test("secrets that would open sessions elsewhere are not given", async () => {
  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key });
  const error = await client.realtime.clientSecrets.create({}).catch((thrown) => thrown);
  expect(error).toMatchObject({ status: 404, code: "unknown_url" });
  expect(error.message).toContain("WebSockets at '/v1/realtime");
});

test("a browser's key comes as a protocol", async () => {
  const protocols = ["realtime", `openai-insecure-api-key.${key}`];
  const socket = new WebSocket(urlOf("gpt-realtime"), protocols);
  sockets.push(socket);
  await once(socket, "open");
  expect(socket.protocol).toBe("realtime");
});

test.each([
  ["what is no JSON", "{"],
  ["what is no event", "[]"],
])("%s is refused, and the session goes on", async (_, text) => {
  const { socket, events } = await open("gpt-realtime");
  socket.send(text);
  await until(() => events.some(({ type }) => type === "error"));
  send(socket, { type: "response.create" });
  await until(() => events.some(({ type }) => type === "response.done"));
});

test("an event beyond its bound ends the session", async () => {
  const { socket } = await open("gpt-realtime");
  const closed = once(socket, "close");
  send(socket, { type: "input_audio_buffer.append", audio: "x".repeat(200_000) });
  const [code] = await closed;
  expect(code).toBe(1009);
});

test("a gateway that stops tells its sessions", async () => {
  const { socket, events } = await open("gpt-realtime");
  const closed = once(socket, "close");
  await gateway.gateway.stop();
  expect((await closed)[0]).toBe(1001);
  expect(events.at(-1)).toMatchObject({ error: { code: "shutting_down" } });
});

test("a gateway stops when what its sessions said is settled", async () => {
  const order: string[] = [];
  let settle = () => {};
  const gate = new Promise<void>((resolve) => {
    settle = () => {
      order.push("settled");
      resolve();
    };
  });
  const reserve = gateway.accounts.reserve.bind(gateway.accounts);
  gateway.accounts.reserve = async (request) => {
    const reservation = await reserve(request);
    const settled = reservation.settle;
    return { ...reservation, settle: (it) => gate.then(() => settled(it)) };
  };
  const { socket, events } = await open("hang");
  send(socket, { type: "response.create" });
  await until(() => events.some(({ type }) => type === "response.created"));
  const closed = once(socket, "close");
  const stopped = gateway.gateway.stop().then(() => order.push("stopped"));
  await closed;
  await until(() => emulator.open() === 0);
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
  settle();
  await stopped;
  expect(order).toEqual(["settled", "stopped"]);
});

async function open(model: string) {
  const socket = new WebSocket(urlOf(model), { headers: { authorization: `Bearer ${key}` } });
  sockets.push(socket);
  const events: { type: string; [field: string]: unknown }[] = [];
  socket.on("message", (data) => events.push(JSON.parse(data.toString())));
  await once(socket, "message");
  return { socket, events };
}

function urlOf(model: string): string {
  return `${gateway.url.replace("http", "ws")}/v1/realtime?model=${model}`;
}

function send(socket: WebSocket, event: object): void {
  socket.send(JSON.stringify(event));
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise(setImmediate);
}
