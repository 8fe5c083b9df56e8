/** Responses asked for on a WebSocket, by OpenAI's own client and by one that says whatever a test wants, over a real database. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import OpenAI from "openai";
import { ResponsesWS } from "openai/resources/responses/ws";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { testRegistry } from "../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testSnapshot,
} from "../../test/support/policy.ts";
import { createHttpServer } from "../http/server.ts";
import { type OpenedGateway, openGateway } from "../open-gateway.ts";

const operatorKey = "operator-key-of-the-tests";
const apiKey = "sk-sy-key-of-acme";
const acme = testProject("acme");
let database: TestDatabase;
let emulator: OpenAiEmulator;
let gateway: OpenedGateway;
let server: Server;
let dataDir: string;
let address: string;

beforeAll(async () => {
  database = await openTestDatabase();
  emulator = await startOpenAiEmulator({
    answer: ({ messages }) => `That was message ${messages.length}.`,
  });
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-sockets-"));
  gateway = await openGateway({
    sql: database.sql,
    dataDir,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    registry: testRegistry(
      testSnapshot({
        projects: [acme],
        keys: [testKey(apiKey, { projectId: acme.id })],
        models: [
          testModel("gpt-test"),
          testModel("cut", { upstreamModel: "any!cut:3" }),
          testModel("stalls", { upstreamModel: "any!stall:3" }),
        ],
        prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
      }),
      operatorKey,
    ),
    operatorKey,
    logger: pino({ level: "silent" }),
    limits: {
      historyBytesMax: 20_000,
      recollectionBytesMax: 30_000,
      responseMessageBytesMax: 100_000,
      responseRefusalsMax: 20,
      socketMessageTimeoutMs: 2000,
    },
  });
  await gateway.start();
  server = createHttpServer(gateway.app.fetch, undefined, { upgrade: gateway.upgrade });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  await gateway.stop();
  await emulator.close();
  await database.close();
  await rm(dataDir, { recursive: true });
});

// biome-ignore lint/suspicious/noExplicitAny: events of many types, of which each test looks at some
type Event = any;
const sockets: WebSocket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate();
});

async function open(headers: Record<string, string> = {}) {
  const socket = new WebSocket(`ws://${address}/v1/responses`, {
    headers: { authorization: `Bearer ${apiKey}`, ...headers },
  });
  sockets.push(socket);
  const events: Event[] = [];
  let wake = () => {};
  socket.on("message", (data) => {
    events.push(JSON.parse(String(data)));
    wake();
  });
  await once(socket, "open");
  /** The events up to the one that ends a turn, or to one of another type. */
  const until = async (type = /^(?:error|response\.(?:completed|failed|incomplete))$/) => {
    for (;;) {
      const end = events.findIndex((event) => type.test(event.type));
      if (end !== -1) return events.splice(0, end + 1);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const send = (event: object | string) =>
    socket.send(typeof event === "string" ? event : JSON.stringify(event));
  const ask = async (body: object): Promise<Event[]> => {
    send({ type: "response.create", model: "gpt-test", ...body });
    return until();
  };
  return { socket, send, until, ask };
}

const cached = { "x-switchyard-cache": "ttl=60" };
const lastRequest = () => emulator.requests.at(-1)?.body.messages.map(({ content }) => content);

test("OpenAI's own client asks for one response after another", async () => {
  const client = new OpenAI({ apiKey, baseURL: `http://${address}/v1` });
  const connection = new ResponsesWS(client);
  const ask = async (previous_response_id?: string) => {
    const ended = new Promise<Event>((resolve) => connection.once("response.completed", resolve));
    connection.send({
      type: "response.create",
      model: "gpt-test",
      store: false,
      input: "one",
      ...(previous_response_id && { previous_response_id }),
    });
    return (await ended).response;
  };
  const first = await ask();
  const second = await ask(first.id);
  expect(second).toMatchObject({ previous_response_id: first.id, store: false });
  expect(second.output[0].content[0].text).toBe("That was message 3.");
  connection.close();
});

test("a turn is the events of a stream, each a message, and a request like every other", async () => {
  const { ask } = await open({ "x-switchyard-tags": "team=search" });
  const events = await ask({ input: "one" });
  expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, at) => at));
  expect(events[0].type).toBe("response.created");
  expect(events.at(-1).response).toMatchObject({ status: "completed", store: true });
  await gateway.flush();
  const [line] = await database.sql`
    select tags, requested_model from billing.requests order by at desc limit 1`;
  expect(line).toEqual({ tags: { team: "search" }, requested_model: "gpt-test" });
});

test("what is not stored is remembered on its connection alone, and only the last of it", async () => {
  const { ask } = await open();
  const first = (await ask({ input: "one", store: false })).at(-1).response;
  const input = [{ role: "user", content: "two" }];
  const asked = { input, store: false, previous_response_id: first.id };
  const second = (await ask(asked)).at(-1).response;
  expect(lastRequest()).toEqual(["one", "That was message 1.", "two"]);
  const third = await ask({ input: "three", store: false, previous_response_id: second.id });
  expect(third.at(-1).type).toBe("response.completed");
  expect(lastRequest()).toHaveLength(5);
  const notFound = {
    type: "error",
    status: 400,
    error: { code: "previous_response_not_found", param: "previous_response_id" },
  };
  expect((await ask(asked)).at(-1)).toMatchObject(notFound);
  const other = await open();
  const elsewhere = { input, previous_response_id: third.at(-1).response.id };
  expect((await other.ask(elsewhere)).at(-1)).toMatchObject(notFound);
  expect((await other.ask({ input })).at(-1).type).toBe("response.completed");
});

test("what is stored is gone on from anywhere, and what goes on from it unstored is remembered whole", async () => {
  const first = (await (await open()).ask({ input: "one" })).at(-1).response;
  const { ask } = await open();
  const asked = { input: "two", store: false, previous_response_id: first.id };
  const second = (await ask(asked)).at(-1).response;
  await ask({ input: "three", store: false, previous_response_id: second.id });
  expect(lastRequest()).toEqual(["one", expect.any(String), "two", expect.any(String), "three"]);
});

test("a response that is remembered on its connection is its own, and none that was given elsewhere", async () => {
  const asked = { input: "Say it again.", store: false };
  for (const { ask } of [await open(cached), await open(cached)]) {
    const { id } = (await ask(asked)).at(-1).response;
    const next = await ask({ input: "two", store: false, previous_response_id: id });
    expect(next.at(-1).type).toBe("response.completed");
  }
});

test("a response that failed is forgotten with what it went on from", async () => {
  const { ask } = await open();
  const first = (await ask({ input: "one", store: false })).at(-1).response;
  const asked = { input: "two", store: false, previous_response_id: first.id };
  const failed = await ask({ ...asked, model: "no-such-model" });
  expect(failed).toMatchObject([
    { type: "error", status: 404, error: { code: "model_not_found" } },
  ]);
  expect((await ask(asked)).at(-1).error.code).toBe("previous_response_not_found");
});

test("the connections together remember no more than they may, and each no more than one conversation", async () => {
  const long = (length: number) => ({ input: "x".repeat(length), store: false });
  const [first, second] = [await open(), await open()];
  const one = (await first.ask(long(14_000))).at(-1).response;
  await second.ask(long(18_000));
  const goOn = { input: "two", previous_response_id: one.id };
  expect((await first.ask(goOn)).at(-1).error.code).toBe("previous_response_not_found");
  const tooLong = (await first.ask(long(25_000))).at(-1).response;
  const refused = await first.ask({ input: "two", previous_response_id: tooLong.id });
  expect(refused.at(-1).error.code).toBe("previous_response_not_found");
});

test("a stream that breaks ends its turn once, and the connection goes on", async () => {
  const { ask } = await open();
  const broken = await ask({ model: "cut", input: "one" });
  expect(broken.at(-1)).toMatchObject({ type: "response.failed", response: { status: "failed" } });
  const next = await ask({ input: "two" });
  expect(next[0].type).toBe("response.created");
  expect(next.at(-1).type).toBe("response.completed");
});

test.each([
  ["no JSON", "{", "invalid_json"],
  ["another event", { type: "response.cancel" }, "invalid_value"],
  ["no event", [1], "invalid_type"],
  ["the background", { type: "response.create", background: true }, "unsupported_parameter"],
  ["a warm-up", { type: "response.create", generate: false }, "unsupported_parameter"],
  ["several streams", { type: "response.create", stream_id: "a" }, "unsupported_parameter"],
  ["no model", { type: "response.create", input: "one" }, "missing_required_parameter"],
])("%s is refused, and the connection goes on", async (_, event, code) => {
  const { send, until, ask } = await open();
  send(event);
  expect(await until()).toMatchObject([{ type: "error", error: { code } }]);
  expect((await ask({ input: "one" })).at(-1).type).toBe("response.completed");
});

test("a second response at one time is refused, and one that its client leaves is broken off upstream", async () => {
  const { send, until, socket } = await open();
  const asked = { type: "response.create", model: "stalls", input: "one" };
  send(asked);
  await until(/^response\.created$/);
  send(asked);
  expect((await until(/^error$/)).at(-1)).toMatchObject({ status: 409 });
  const before = emulator.aborts.length;
  socket.terminate();
  await expect.poll(() => emulator.aborts.length, { timeout: 10_000 }).toBe(before + 1);
});

/** Messages of one character, all at once. */
function burst(socket: WebSocket, count: number): void {
  const { _socket: wire } = socket as unknown as { _socket: Duplex };
  wire.cork();
  for (let index = 0; index < count; index++) socket.send("x");
  wire.uncork();
}

test("who asks on and on before an end is refused each time, and left where no refusal is read", async () => {
  const { send, until, socket } = await open();
  send({ type: "response.create", model: "stalls", input: "one" });
  await until(/^response\.created$/);
  for (let round = 0; round < 3; round++) {
    burst(socket, 20);
    for (let index = 0; index < 20; index++) {
      expect((await until(/^error$/)).at(-1)).toMatchObject({ status: 409 });
    }
  }
  burst(socket, 1000);
  const [code] = await once(socket, "close");
  expect(code).toBe(1006);
});

test("a message that is too long ends its connection", async () => {
  const { send, socket } = await open();
  send({ type: "response.create", model: "gpt-test", input: "x".repeat(100_000) });
  const [code] = await once(socket, "close");
  expect(code).toBe(1009);
});

test("who has no key is refused before there is a connection", async () => {
  const socket = new WebSocket(`ws://${address}/v1/responses`);
  const [, response] = await once(socket, "unexpected-response");
  expect(response.statusCode).toBe(401);
  socket.on("error", () => {}).terminate();
});

test("a message of which the rest never comes ends its connection, whatever is under way", async () => {
  const { socket, send, until } = await open();
  send({ type: "response.create", model: "stalls", input: "Hello." });
  await until(/^response.output_text.delta$/);
  const closed = once(socket, "close");
  socket.send('{"type":', { fin: false });
  expect((await until(/^error$/)).at(-1)).toMatchObject({
    status: 408,
    error: { code: "request_timeout" },
  });
  expect((await closed)[0]).toBe(1008);
});
