/** What a socket may bring that never becomes a request. */
import { once } from "node:events";
import { Agent, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { errorBody } from "../../sdk/protocol/errors.ts";
import { createHttpServer } from "./server.ts";

const server = createHttpServer(async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 800));
  // As `forward` hands a body on to a service that refuses it by its length, unread.
  if (pathname === "/refuse") new Request("http://service", forwarded(request));
  return new Response("answered");
});
const forwarded = ({ body }: Request) =>
  ({ method: "POST", body, duplex: "half" }) as unknown as RequestInit;
beforeAll(async () => {
  await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(() => void server.close());

async function send(bytes: string): Promise<string> {
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  // A server that refuses early may close while the rest is still being sent.
  socket.on("error", () => {});
  socket.write(bytes);
  await once(socket, "close");
  return answer;
}

test.each([
  ["no HTTP", "HELLO\r\n\r\n", 400, "not a valid HTTP request"],
  [
    "headers without end",
    `GET / HTTP/1.1\r\nhost: x\r\nx-big: ${"a".repeat(20_000)}\r\n\r\n`,
    413,
    "headers are larger than",
  ],
  ["no host", "GET / HTTP/1.0\r\n\r\n", 400, "Missing host header"],
  [
    "an address that is none",
    "GET http:// HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    400,
    "URL",
  ],
])("%s is refused in OpenAI's envelope", async (_, bytes, status, words) => {
  const answer = await send(bytes);
  expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  const { error } = errorBody.parse(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n"))));
  expect(error.message).toContain(words);
});

test("rubbish that comes while an answer is under way is not answered into it", async () => {
  const answer = await send("GET / HTTP/1.1\r\nhost: x\r\n\r\n\r\nrubbish\r\n\r\n");
  expect(answer).toContain("answered");
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
});

test("a body that nobody read does not break the next request on its connection", async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (path: string, body: Uint8Array) =>
    new Promise<string>((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      const asked = httpRequest({ agent, port, path, method: "POST" }, (response) => {
        response.setEncoding("utf8");
        let text = "";
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => resolve(text));
      });
      asked.on("error", reject);
      asked.end(body);
    });
  expect(await ask("/refuse", new Uint8Array(1 << 20))).toBe("answered");
  expect(await ask("/slow", new Uint8Array(0))).toBe("answered");
  agent.destroy();
});
