import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { Duplex } from "node:stream";
import { pino } from "pino";
import { expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { testModel } from "../../test/support/policy.ts";
import { defaultLimits } from "../config.ts";
import type { Reservation } from "../metering/types.ts";
import { Holds } from "./holds.ts";
import { type Metered, Session } from "./session.ts";

test("who sends nonsense and reads no answers is not heard further", async () => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const upstream = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(upstream, "open");
  const connection = new Unread();
  const client = await accept(server, connection);
  const ended = sessionOf(client, upstream).run();
  // A text of one byte, masked with zeros.
  const nonsense = Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x7b]);
  connection.push(Buffer.concat(Array.from({ length: 1000 }, () => nonsense)));
  while (client.bufferedAmount === 0) await new Promise(setImmediate);
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  expect(client.bufferedAmount).toBeLessThan(2000);
  client.terminate();
  upstream.terminate();
  await ended;
  server.close();
});

test("what was held for responses that the upstream refuses is given back", async () => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const [peer, client] = await pairOf(server);
  const [provider, upstream] = await pairOf(server);
  let asked = 0;
  provider.on("message", () => {
    if (++asked < 5) return;
    for (let told = 0; told < 5; told++) provider.send('{"type":"error","error":{}}');
  });
  let held = 0;
  const reserve = async (): Promise<Reservation> => {
    held++;
    return {
      headers: {},
      settle: async () => ({}),
      release: async () => {
        held--;
      },
    };
  };
  const ended = sessionOf(client, upstream, reserve).run();
  let refused = 0;
  peer.on("message", () => refused++);
  for (let wanted = 0; wanted < 5; wanted++) peer.send('{"type":"response.create"}');
  while (refused < 5) await new Promise(setImmediate);
  expect(held).toBe(1);
  peer.terminate();
  await ended;
  expect(held).toBe(0);
  server.close();
});

/** Both ends of a connection. */
async function pairOf(server: WebSocketServer): Promise<[WebSocket, WebSocket]> {
  const accepted = once(server, "connection");
  const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(socket, "open");
  const [other] = await accepted;
  return [other, socket];
}

/** A connection that takes the head of the answer, and nothing after it. */
class Unread extends Duplex {
  #hasHead = false;

  override _read(): void {}

  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    if (!this.#hasHead) done();
    this.#hasHead = true;
  }
}

function accept(server: WebSocketServer, connection: Duplex): Promise<WebSocket> {
  const headers = {
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const request = { method: "GET", url: "/", headers } as unknown as IncomingMessage;
  return new Promise((resolve) =>
    server.handleUpgrade(request, connection, Buffer.alloc(0), resolve),
  );
}

function sessionOf(
  client: WebSocket,
  upstream: WebSocket,
  reserve: () => Promise<Reservation> = nobody,
): Session {
  const model = testModel("gpt-realtime");
  const answers: Metered = {
    target: { name: model.id, model },
    holds: new Holds({ reserve, now: Date.now, waitMsMax: 0, wait: nobody }),
    begin() {
      throw new Error("nothing is answered here");
    },
  };
  return new Session({
    ...{ client, upstream, answers, openTranscriber: () => answers },
    seen: { written: 0, heard: 0, said: 0, spoken: 0 },
    requestedModel: model.id,
    authorize: () => {},
    timeouts: { firstByteMs: 120_000, idleMs: 60_000 },
    limits: defaultLimits,
    logger: pino({ enabled: false }),
    now: Date.now,
  });
}

async function nobody(): Promise<never> {
  throw new Error("nothing is answered here");
}
