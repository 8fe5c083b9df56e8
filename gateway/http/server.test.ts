/** What a socket may bring that never becomes a request. */
import { once } from "node:events";
import { Agent, request as httpRequest } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ErrorCode, errorBody, errorTable } from "../../sdk/protocol/errors.ts";
import { createHttpServer } from "./server.ts";

const server = createHttpServer(async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 800));
  // As `forward` hands a body on to a service that refuses it by its length, unread.
  if (pathname === "/refuse") new Request("http://service", forwarded(request));
  if (pathname === "/read") read(request.text().catch((error: Error) => error));
  return pathname === "/read" ? new Promise(() => {}) : new Response("answered");
});
let read: (body: Promise<unknown>) => void = () => {};
const forwarded = ({ body }: Request) =>
  ({ method: "POST", body, duplex: "half" }) as unknown as RequestInit;
beforeAll(async () => {
  await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(() => void server.close());

async function send(bytes: string, to = server): Promise<string> {
  const socket = connect((to.address() as AddressInfo).port, "127.0.0.1");
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

test.each([
  ["content-length: 100", "half of it"],
  ["transfer-encoding: chunked", "5\r\nhalf"],
])(
  "whoever reads a body (%s) whose client leaves in the middle hears of it",
  async (header, body) => {
    const reading = new Promise<unknown>((resolve) => {
      read = resolve;
    });
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
    socket.write(`POST /read HTTP/1.1\r\nhost: x\r\n${header}\r\n\r\n${body}`);
    await once(server, "request");
    socket.end();
    expect(await reading).toBeInstanceOf(Error);
  },
);

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

test("who speaks HTTP/2 without TLS is told to speak HTTP/1.1", async () => {
  const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  session.on("error", () => {});
  const told = once(session, "goaway");
  session
    .request({ ":method": "POST", ":path": "/" })
    .on("error", () => {})
    .end("x");
  const [code, , reason] = await told;
  expect([code, String(reason)]).toEqual([
    constants.NGHTTP2_HTTP_1_1_REQUIRED,
    expect.stringContaining("HTTP/1.1"),
  ]);
  session.destroy();
});

describe("a client that sends too slowly", () => {
  const limits = { headersTimeoutMs: 150, requestTimeoutMs: 300, connectionsMax: 100 };
  const read: string[] = [];
  const patient = createHttpServer(async (request) => {
    read.push(await request.text().catch(() => "broken off"));
    return new Response("answered");
  }, limits);
  beforeAll(async () => {
    await once(patient.listen(0, "127.0.0.1"), "listening");
  });
  afterAll(() => void patient.close());

  test.each([
    ["its headers", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "],
    ["its body", "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"],
    ["the chunks of its body", `${chunked("/chunks")}4\r\nhalf\r\n`],
  ])("is refused while it is at %s, byte by byte or not at all", async (_, begin) => {
    for (const trickles of [false, true]) {
      const socket = connect((patient.address() as AddressInfo).port, "127.0.0.1");
      let answer = "";
      socket.on("data", (chunk: Buffer) => {
        answer += chunk.toString();
      });
      socket.on("error", () => {});
      socket.write(begin);
      const trickle = setInterval(() => trickles && socket.writable && socket.write("a"), 20);
      await once(socket, "close");
      clearInterval(trickle);
      expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
      const { error } = errorBody.parse(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n"))));
      expect(answer.slice(9, 12)).toBe(String(errorTable[error.code as ErrorCode].status));
      // What trickles where a chunk's head would be may make it none.
      if (!trickles) expect(error.code).toBe("request_timeout");
      else expect(["request_timeout", "invalid_value"]).toContain(error.code);
    }
    // Whoever waited for the rest of it waits no longer.
    expect(read.filter((text) => text !== "broken off")).toEqual([]);
  });

  test("of a second request does not spoil the answer to its first", async () => {
    const answer = await send(
      "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nx-slow: ",
      patient,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toContain("answered");
  });
});

test("connections beyond the most are closed at once, and others go on", async () => {
  const narrow = createHttpServer(async () => new Response("answered"), {
    headersTimeoutMs: 20_000,
    requestTimeoutMs: 20_000,
    connectionsMax: 2,
  });
  await once(narrow.listen(0, "127.0.0.1"), "listening");
  const { port } = narrow.address() as AddressInfo;
  const open = () => connect(port, "127.0.0.1").on("error", () => {});
  const held = [open(), open()];
  await Promise.all(held.map((socket) => once(socket, "connect")));
  await once(open(), "close");
  held[0]?.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  const [answer] = await once(held[0] as Socket, "data");
  expect(String(answer)).toContain("HTTP/1.1 200");
  for (const socket of held) socket.destroy();
  narrow.close();
});

function chunked(path: string): string {
  return `POST ${path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`;
}
