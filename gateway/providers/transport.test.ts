import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { openPool, type Transport, type TransportResponse } from "./transport.ts";

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of cleanUp.splice(0).reverse()) await end();
});

const kib = 1 << 10;

describe("an answer that nobody reads for a while", () => {
  const heads = {
    "a length and Connection: close": (bytes: number) =>
      `HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\nConnection: close\r\n\r\n`,
    "a length in HTTP/1.0": (bytes: number) =>
      `HTTP/1.0 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`,
    "nothing but its end": () => "HTTP/1.1 200 OK\r\n\r\n",
  };
  for (const [name, head] of Object.entries(heads)) {
    for (const bytes of [64 * kib, 128 * kib, 300 * kib, 8 << 20]) {
      test(`comes whole, told by ${name}, ${bytes} bytes`, async () => {
        const { pool } = await openWorld((socket) => {
          socket.write(head(bytes));
          socket.end(Buffer.alloc(bytes, "x"));
        });
        const answer = await post(pool);
        await sleep(stallMs);
        expect(await sizeOf(answer)).toBe(bytes);
      });
    }

    test(`fails when it is reset, told by ${name}`, async () => {
      const { pool } = await openWorld(async (socket) => {
        socket.write(head(1 << 20));
        socket.write(Buffer.alloc(100 * kib, "x"));
        await sleep(stallMs);
        socket.resetAndDestroy();
      });
      const answer = await post(pool);
      await sleep(2 * stallMs);
      await expect(sizeOf(answer)).rejects.toThrow();
    });
  }

  test("fails when it is reset, told by chunks", async () => {
    const { pool } = await openWorld(async (socket) => {
      socket.write(chunkedHead + chunkOf(100 * kib));
      await sleep(stallMs);
      socket.resetAndDestroy();
    });
    const answer = await post(pool);
    await sleep(2 * stallMs);
    await expect(sizeOf(answer)).rejects.toThrow("ECONNRESET");
  });

  test("is not taken from its upstream, and its connection serves the next call", async () => {
    const bytes = 64 << 20;
    const { pool, sockets } = await openWorld((socket) => {
      socket.write(chunkedHead);
      for (let at = 0; at < bytes; at += 1 << 20) socket.write(chunkOf(1 << 20));
      socket.write("0\r\n\r\n");
    });
    for (let turn = 0; turn < 2; turn++) {
      const answer = await post(pool);
      await sleep(stallMs);
      expect(sockets[0]?.writableLength).toBeGreaterThan(bytes / 4);
      expect(await sizeOf(answer)).toBe(bytes);
    }
    expect(sockets).toHaveLength(1);
  });

  test("can be given up", async () => {
    const { pool, sockets } = await openWorld((socket) => {
      socket.write(chunkedHead + chunkOf(1 << 20));
    });
    const answer = await post(pool);
    await sleep(stallMs);
    answer.cancel();
    await until(() => sockets[0]?.destroyed === true);
    await expect(answer.read()).rejects.toThrow("not wanted any more");
  });
});

test("a call that is given up while it waits for a connection leaves that to the next", async () => {
  const waiting: Socket[] = [];
  const { pool, sockets } = await openWorld((socket) => waiting.push(socket));
  const answerOne = () => waiting.shift()?.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  const first = post(pool);
  const leaving = new AbortController();
  const sent: string[] = [];
  const second = post(pool, { signal: leaving.signal, onSent: () => sent.push("second") });
  const third = post(pool, { onSent: () => sent.push("third") });
  leaving.abort(new Error("The client has left."));
  await expect(second).rejects.toThrow("The client has left.");
  await until(() => waiting.length > 0);
  answerOne();
  expect(await sizeOf(await first)).toBe(2);
  await until(() => waiting.length > 0);
  answerOne();
  expect(await sizeOf(await third)).toBe(2);
  expect(sent).toEqual(["third"]);
  expect(sockets).toHaveLength(1);
});

const stallMs = 200;
const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const chunkOf = (bytes: number) => `${bytes.toString(16)}\r\n${"x".repeat(bytes)}\r\n`;

/** An upstream that writes what it likes, and one connection to it. */
async function openWorld(onRequest: (socket: Socket) => void) {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    // A request of these tests is small enough to come in one piece.
    socket.on("data", () => onRequest(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUp.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const pool = openPool({
    baseUrl: `http://127.0.0.1:${port}`,
    connectTimeoutMs: 10_000,
    connectionsMax: 1,
  });
  cleanUp.push(() => pool.close());
  return { pool, sockets };
}

function post(
  pool: Transport,
  { signal = new AbortController().signal, onSent = () => {} } = {},
): Promise<TransportResponse> {
  return pool.send({ path: "/", headers: {}, body: "{}", signal, onSent });
}

async function sizeOf(answer: TransportResponse): Promise<number> {
  let bytes = 0;
  for (let chunk = await answer.read(); chunk; chunk = await answer.read()) bytes += chunk.length;
  return bytes;
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await sleep(5);
}
