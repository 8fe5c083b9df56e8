import { once } from "node:events";
import type { Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { createHttpServer, type Upgrade } from "./server.ts";

const sockets = new WebSocketServer({ noServer: true });
let server: Server;
let port: number;
let upgrade: Upgrade = (request, socket, head) =>
  sockets.handleUpgrade(request, socket, head, (client) => client.send("hello"));
beforeAll(async () => {
  const echo = async (request: Request) => new Response(`echo ${await request.text()}`);
  server = createHttpServer(echo, undefined, {
    upgrade: (...asked) => upgrade(...asked),
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  for (const client of sockets.clients) client.terminate();
  server?.close();
});

test("what asks to become a WebSocket becomes one", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/realtime`);
  const [message] = await once(socket, "message");
  expect(String(message)).toBe("hello");
  socket.terminate();
});

test("a request that offers HTTP/2 is answered as any other, its body included", async () => {
  const socket = connect(port, "127.0.0.1");
  socket.write(
    "POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\n" +
      "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\ncontent-length: 5\r\n\r\nhello",
  );
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 [\s\S]*echo hello/);
});

test("a client that breaks off while it waits to be upgraded harms nobody else", async () => {
  const asked = new Promise<Duplex>((resolve) => {
    upgrade = (_, socket) => resolve(socket);
  });
  const client = connect(port, "127.0.0.1");
  client.write(
    "GET /slow HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
  );
  const socket = await asked;
  // Nobody listens for its errors here: one that nobody else hears ends the process.
  const closed = new Promise((resolve) => socket.once("close", resolve));
  client.resetAndDestroy();
  socket.resume();
  await closed;
  expect(socket.errored).toMatchObject({ code: "ECONNRESET" });
});
