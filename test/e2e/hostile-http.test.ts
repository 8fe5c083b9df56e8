/** HTTP as no client should send it, and bodies that mean harm: each gets one refusal or is closed, and others go on. */
import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createHttpServer } from "../../gateway/http/server.ts";
import type { ErrorBody } from "../../sdk/protocol/errors.ts";
import { randomFrom } from "../support/fuzz/random.ts";
import { type SampleDialect, sampleRequest } from "../support/fuzz/requests.ts";
import { type SampleUpstream, startSampleUpstream } from "../support/fuzz/upstream.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../support/policy.ts";

const acme = testProject("acme");
const apiKey = "sk-sy-key-of-the-acme-project";
const requestBytesMax = 1 << 20;

let upstream: SampleUpstream;
let served: TestGateway;
let server: ReturnType<typeof createHttpServer>;
let port: number;
beforeAll(async () => {
  upstream = await startSampleUpstream();
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        testModel("gpt", { upstream: "openai-chat" }),
        testModel("claude", { upstream: "anthropic-messages" }),
      ],
    }),
    upstreams: upstream.settings,
    limits: { requestBytesMax, requestValuesMax: 50_000 },
  });
  server = createHttpServer(served.gateway.app.fetch);
  await once(server.listen(0, "127.0.0.1"), "listening");
  port = (server.address() as AddressInfo).port;
});
afterEach(async () => {
  // Whatever came, the next request is answered, and nothing was our own mistake.
  expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  expect(served.log.filter(({ msg }) => msg === "failed")).toEqual([]);
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await served.close();
  await upstream.close();
});

const chat = JSON.stringify({ model: "gpt", messages: [{ role: "user", content: "Hi" }] });
const head = (method: string, path: string, ...headers: string[]) =>
  `${[`${method} ${path} HTTP/1.1`, "host: x", `authorization: Bearer ${apiKey}`, ...headers].join("\r\n")}\r\n\r\n`;
const json = "content-type: application/json";
const post = (body: string, ...headers: string[]) =>
  head(
    "POST",
    "/v1/chat/completions",
    json,
    `content-length: ${Buffer.byteLength(body)}`,
    ...headers,
  ) + body;
const last = "connection: close";

/** Everything that comes back until the connection is closed. */
async function raw(bytes: string | Uint8Array): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  socket.on("error", () => {});
  socket.write(bytes);
  await once(socket, "close");
  return answer;
}

const statuses = (answer: string) =>
  [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));

describe("what could be read as two requests, or as another one", () => {
  const smuggled = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
  test.each([
    [
      "both lengths",
      `${head(
        "POST",
        "/v1/chat/completions",
        json,
        "content-length: 5",
        "transfer-encoding: chunked",
      )}0\r\n\r\n${smuggled}`,
    ],
    [
      "two lengths",
      head("POST", "/v1/chat/completions", json, "content-length: 5", "content-length: 50") +
        `hello${smuggled}`,
    ],
    [
      "a list of lengths",
      `${head("POST", "/v1/chat/completions", json, "content-length: 5, 5")}hello${smuggled}`,
    ],
    [
      "a length with a sign",
      `${head("POST", "/v1/chat/completions", json, "content-length: +5")}hello${smuggled}`,
    ],
    [
      "chunked that is not last",
      head("POST", "/v1/chat/completions", json, "transfer-encoding: chunked, identity") +
        `0\r\n\r\n${smuggled}`,
    ],
    [
      "chunked misspelt",
      head("POST", "/v1/chat/completions", json, "transfer-encoding: xchunked") +
        `0\r\n\r\n${smuggled}`,
    ],
    [
      "a blank before the colon",
      `${head("POST", "/v1/chat/completions", json, "content-length : 5")}hello${smuggled}`,
    ],
    [
      "a folded header",
      `${head("POST", "/v1/chat/completions", "x-a: b\r\n content-length: 5")}hello${smuggled}`,
    ],
    ["bare line feeds", `${post(chat).replaceAll("\r\n", "\n")}${smuggled}`],
    [
      "a chunk of a negative size",
      head("POST", "/v1/chat/completions", json, "transfer-encoding: chunked") +
        `-1\r\n${smuggled}`,
    ],
    [
      "a chunk of no size that fits",
      head("POST", "/v1/chat/completions", json, "transfer-encoding: chunked") +
        `ffffffffffffffffff\r\n${smuggled}`,
    ],
    ["a NUL in a header", head("GET", "/v1/models", "x-a: b\0c")],
    ["a CR in a header", head("GET", "/v1/models", "x-a: b\rc: d")],
  ])("%s is refused once, and what follows is not answered", async (_, bytes) => {
    const answer = await raw(bytes);
    expect(statuses(answer)).toEqual([400]);
    expect(answer).not.toContain("gateway_");
    const body = JSON.parse(answer.slice(answer.indexOf("\r\n\r\n"))) as ErrorBody;
    expect(body.error.message).toContain("not a valid HTTP request");
  });

  test("requests that come together are answered one after the other", async () => {
    const answer = await raw(post(chat) + head("GET", "/v1/models") + post("{") + post(chat, last));
    expect(statuses(answer)).toEqual([200, 200, 400, 200]);
    expect(answer.match(/"chat\.completion"/g)).toHaveLength(2);
  });
});

describe("methods and headers", () => {
  test.each(["TRACE", "CONNECT", "PROPFIND", "BREW"])("%s is nobody's method", async (method) => {
    const answer = await raw(head(method, "/v1/chat/completions", last));
    // Of these Node itself knows some, and has no others pass.
    for (const status of statuses(answer)) expect([400, 405]).toContain(status);
    expect(answer).not.toContain(apiKey);
  });

  test("HEAD is answered without a body, as GET would be", async () => {
    const answer = await raw(head("HEAD", "/v1/models", last));
    expect(statuses(answer)).toEqual([200]);
    expect(answer.slice(answer.indexOf("\r\n\r\n") + 4)).toBe("");
  });

  test("OPTIONS names the headers that were asked for, and can smuggle none in", async () => {
    const asked = "access-control-request-headers: x-stainless-os,x-\u00e9";
    const answer = await raw(head("OPTIONS", "/v1/anything", asked, "origin: https://a", last));
    expect(statuses(answer)).toEqual([204]);
    expect(answer).toContain("access-control-allow-headers: x-stainless-os");
  });

  test("who waits to be told to go on is told", async () => {
    const socket = connect(port, "127.0.0.1");
    socket.write(
      head(
        "POST",
        "/v1/chat/completions",
        json,
        `content-length: ${chat.length}`,
        "expect: 100-continue",
        last,
      ),
    );
    const [go] = (await once(socket, "data")) as [Buffer];
    expect(go.toString()).toMatch(/^HTTP\/1\.1 100 Continue\r\n/);
    socket.write(chat);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
    socket.destroy();
  });

  test("other expectations are not met", async () => {
    const answer = await raw(post(chat, "expect: the-spanish-inquisition", last));
    expect(statuses(answer)).toEqual([417]);
  });

  test.each([
    ["a thousand parameters", `/v1/models?${"a=1&".repeat(1000)}`],
    ["broken escapes", "/v1/models?a=%zz&%=%&=%u0000"],
    ["names of prototypes", "/v1/models?__proto__[x]=1&constructor=2&toString=3"],
    ["a model that is no UTF-8", "/v1/models/%ff%fe"],
    ["a model that climbs", "/v1/models/..%2f..%2fetc%2fpasswd"],
    ["a model called as a prototype", "/v1/models/__proto__"],
    ["a page that is none", "/v1beta/models?pageSize=1e9&pageToken=-1"],
  ])("%s in an address are a client's matter", async (_, path) => {
    const [status = 0] = statuses(await raw(head("GET", path, last)));
    expect([200, 400, 404]).toContain(status);
  });

  test("what a client says comes back in no header that it could break", async () => {
    const names = ["x\r\nx-evil: 1", "x\u0000", "x\u2028y", "\ud800", "é".repeat(300), "__proto__"];
    for (const name of names) {
      // Fields that the provider has no place for are named in a header.
      const body = { model: "claude", messages: [{ role: "user", content: "Hi" }], [name]: 1 };
      const response = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
        body: JSON.stringify({
          ...body,
          tools: [tool(name)],
          user: name,
          metadata: { [name]: name },
        }),
      });
      expect([200, 400]).toContain(response.status);
      expect(response.headers.get("x-evil")).toBeNull();
      for (const [, value] of response.headers) expect(value).toMatch(/^[\x20-\x7e]*$/);
      await response.text();
    }
    const tagged = await raw(post(chat, "x-switchyard-tags: a=\u00ff\u0001b, __proto__=c", last));
    expect([200, 400]).toContain(statuses(tagged)[0]);
  });
});

const tool = (name: string) => ({
  type: "function",
  function: {
    name: "f",
    description: name,
    parameters: JSON.parse(
      `{"type":"object","properties":{"__proto__":{"type":"string"},"constructor":{}}}`,
    ),
  },
});

describe("bodies", () => {
  test("of a hundred megabytes are refused by their length, before they are sent", async () => {
    const socket = connect(port, "127.0.0.1");
    // Nothing follows: whoever waited for it would wait for good.
    socket.write(head("POST", "/v1/chat/completions", json, `content-length: ${100 << 20}`));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer.toString()).toContain(`${requestBytesMax} bytes`);
    socket.destroy();
  });

  test("without an end are refused at the bound, and not read on", async () => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    const chunk = Buffer.from(`10000\r\n${" ".repeat(0x10000)}\r\n`);
    socket.write(head("POST", "/v1/chat/completions", json, "transfer-encoding: chunked"));
    let answer = "";
    socket.on("data", (bytes: Buffer) => {
      answer += bytes.toString();
    });
    for (let sent = 0; answer === ""; sent++) {
      // Twice the bound has certainly been read, were it read.
      expect(sent).toBeLessThan(100_000);
      if (!socket.write(chunk)) await Promise.race([once(socket, "drain"), once(socket, "data")]);
      await new Promise(setImmediate);
    }
    expect(statuses(answer)).toEqual([413]);
    socket.destroy();
  });

  const dialects: SampleDialect[] = [
    "openai-chat",
    "openai-completions",
    "openai-responses",
    "anthropic-messages",
    "gemini",
    "bedrock-converse",
  ];
  const bodies: [string, (body: string) => string | Uint8Array][] = [
    ["with a byte order mark", (body) => `\ufeff${body}`],
    [
      "that are no UTF-8",
      (body) => Buffer.concat([Buffer.from(body.slice(0, -1)), Buffer.from([0xff, 0xfe, 0x7d])]),
    ],
    ["of random bytes", () => Buffer.from(Array.from({ length: 4096 }, noise))],
    ["with each name twice", (body) => body.replace("{", `{${body.slice(1, -1)},`)],
    [
      "with half of a character",
      (body) => body.replace("Be kind.", "\\ud83e").replace("One", "\\ud83e"),
    ],
    [
      "with a number of a million digits",
      (body) => body.replace("{", `{"seed": ${"9".repeat(500_000)},`),
    ],
    [
      "with names of prototypes",
      (body) =>
        body.replace(
          "{",
          '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}, "toString": 1,',
        ),
    ],
    [
      "nested deeper than is read",
      (body) => body.replace("{", `{"deep": ${"[".repeat(100_000)}${"]".repeat(100_000)},`),
    ],
    ["nested without an end", (body) => `${body.slice(0, -1)},"deep":${"[".repeat(200_000)}`],
    [
      "of more values than are read",
      (body) => body.replace("{", `{"many": [${"0,".repeat(60_000)}0],`),
    ],
    [
      "of as many names",
      (body) =>
        body.replace("{", `{${Array.from({ length: 40_000 }, (_, at) => `"k${at}":0`).join(",")},`),
    ],
    [
      "that are an endless string",
      (body) => `${body.slice(0, -1)},"text":"${"\\\\".repeat(300_000)}`,
    ],
  ];
  const random = randomFrom(7);
  function noise(): number {
    return random.below(256);
  }

  test.each(
    dialects.flatMap((dialect) => bodies.map(([what, spoil]) => [dialect, what, spoil] as const)),
  )("of %s %s are answered, or refused in its own words", async (dialect, _what, spoil) => {
    for (const stream of [false, true]) {
      const { path, headers, body } = sampleRequest(dialect, { model: "gpt", stream });
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${apiKey}`,
          ...headers,
        },
        body: spoil(JSON.stringify(body)) as Uint8Array<ArrayBuffer>,
      });
      const text = await response.text();
      expect([200, 400, 413]).toContain(response.status);
      if (response.status !== 200) expect(messageOf(dialect, JSON.parse(text))).toMatch(/\w{3}/);
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  test.each(["gzip", "br", "deflate, gzip", "x".repeat(500)])(
    "compressed as %s are refused unread",
    async (coding) => {
      const answer = await raw(post("\u001f\u008b", `content-encoding: ${coding}`, last));
      expect(statuses(answer)).toEqual([415]);
    },
  );
});

/** Where each dialect's clients look for the words. */
function messageOf(
  dialect: SampleDialect,
  body: { message?: unknown; error?: { message?: unknown } },
) {
  return String(dialect === "bedrock-converse" ? body.message : body.error?.message);
}
