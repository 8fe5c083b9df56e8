/** Wrong requests against the running product: each gets one clear error in OpenAI's envelope. */
import { connect } from "node:net";
import { describe, expect, test } from "vitest";
import type { ErrorBody } from "../../sdk/protocol/errors.ts";
import { call } from "../support/api.ts";
import { expectRefusal, hello, type Refusal, refusingServer } from "../support/refusals.ts";

const service = refusingServer();
const { send, post, chat } = service;
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

describe("a completion's body", () => {
  test.each<[string, unknown, Refusal]>([
    ["is not JSON", '{"model":', { code: "invalid_json", says: "could not parse the JSON body" }],
    ["is empty", "", { code: "invalid_json", says: "could not parse the JSON body" }],
    ["is an array", [hello], { code: "invalid_type", says: "expected object, received array" }],
    ["is null", "null", { code: "invalid_type", says: "expected object, received null" }],
    ["is a string", '"hello"', { code: "invalid_type", says: "expected object, received string" }],
    [
      "names no model",
      { messages: hello.messages },
      { code: "missing_required_parameter", param: "model", says: "'model'" },
    ],
    [
      "hides the model in __proto__",
      '{"__proto__": {"model": "support-tiny"}, "messages": [{"role": "user", "content": "x"}]}',
      { code: "missing_required_parameter", param: "model", says: "'model'" },
    ],
    [
      "has a model of another type",
      { ...hello, model: 5 },
      { code: "invalid_type", param: "model", says: "expected string, received number" },
    ],
    [
      "has no messages",
      { ...hello, messages: [] },
      { code: "number_out_of_range", param: "messages", says: ">=1 items" },
    ],
    [
      "has messages of another type",
      { ...hello, messages: "hello" },
      { code: "invalid_type", param: "messages", says: "expected array, received string" },
    ],
    [
      "has an unknown role",
      { ...hello, messages: [{ role: "robot", content: "x" }] },
      { code: "invalid_value", param: "messages[0].role", says: '"assistant"' },
    ],
    [
      "has a message without content",
      { ...hello, messages: [{ role: "user" }] },
      { code: "missing_required_parameter", param: "messages[0].content", says: "'messages[0]" },
    ],
    [
      "has content of another type",
      { ...hello, messages: [{ role: "user", content: 5 }] },
      {
        code: "invalid_type",
        param: "messages[0].content",
        says: "'messages[0].content': expected string or array",
      },
    ],
    [
      "has a part without a type",
      { ...hello, messages: [{ role: "user", content: [{ text: "x" }] }] },
      {
        code: "missing_required_parameter",
        param: "messages[0].content[0].type",
        says: "'messages[0].content[0].type'",
      },
    ],
    [
      "has a picture for a model that reads text",
      {
        ...hello,
        messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }],
      },
      {
        code: "unsupported_parameter",
        param: "messages[0].content[0].type",
        says: "not supported",
      },
    ],
    [
      "has a temperature beyond its bounds",
      { ...hello, temperature: 9 },
      { code: "number_out_of_range", param: "temperature", says: "<=2" },
    ],
    [
      "asks for no tokens",
      { ...hello, max_tokens: 0 },
      { code: "number_out_of_range", param: "max_tokens", says: ">=1" },
    ],
    [
      "asks for half a token",
      { ...hello, max_tokens: 0.5 },
      { code: "invalid_type", param: "max_tokens", says: "expected int" },
    ],
    [
      "has a stream of another type",
      { ...hello, stream: "yes" },
      { code: "invalid_type", param: "stream", says: "expected boolean, received string" },
    ],
    [
      "has a stop of another type",
      { ...hello, stop: ["a", 5] },
      { code: "invalid_type", param: "stop[1]", says: "expected string" },
    ],
    [
      "asks for what the model cannot do",
      { ...hello, tools: [{ type: "function", function: { name: "f" } }] },
      { code: "unsupported_parameter", param: "tools", says: "knows no tools" },
    ],
    [
      "has a slip of the pen",
      { ...hello, temprature: 0 },
      { code: "invalid_value", param: "temprature", says: "'temprature'" },
    ],
    [
      "is nested deeper than anything that is read",
      `{"model": "support-tiny", "messages": ${nested(20_000)}}`,
      { code: "invalid_type", param: "messages[0]", says: "expected object, received array" },
    ],
    [
      "mixes an adapter that is not there",
      { ...hello, adapters: [{ model: "nothing", weight: 1 }] },
      { code: "model_not_found", param: "adapters[0].model", says: "`nothing`" },
    ],
  ])("that %s is refused", async (_, body, refusal) => {
    await expectRefusal(await chat(body), refusal);
  });

  test("may be nested deeply where it is not read, and may name __proto__ without effect", async () => {
    for (const body of [
      `{"model": "support-tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "x", "extra": ${nested(500)}}]}`,
      '{"model": "support-tiny", "max_tokens": 1, "__proto__": {"stream": true}, "messages": [{"role": "user", "content": "x", "__proto__": {"role": "robot"}}]}',
    ]) {
      const response = await chat(body);
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ object: "chat.completion" });
    }
  });

  test("nested too deeply to be passed on is refused, and is no fault of the upstream's", async () => {
    const body = `{"model": "support-tiny", "messages": [{"role": "user", "content": "x"}], "extra": ${nested(50_000)}}`;
    // As many faults as these would have the upstream left alone for a while.
    for (let sent = 0; sent < 30; sent++) {
      await expectRefusal(await chat(body), { code: "invalid_value", says: "nested too deeply" });
    }
    expect((await chat({ ...hello, max_tokens: 1 })).status).toBe(200);
  });

  test("of another type than JSON is refused by its header", async () => {
    const response = await send("/v1/chat/completions", {
      method: "POST",
      body: "model=support-tiny",
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    await expectRefusal(response, {
      code: "unsupported_media_type",
      says: "'application/x-www-form-urlencoded'",
    });
  });

  test("that is too large is refused with the bound, whether it tells its length or not", async () => {
    const block = new Uint8Array(1 << 20).fill(0x20);
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent++ < 40) controller.enqueue(block);
        else controller.close();
      },
    });
    for (const body of [new Uint8Array(33 << 20).fill(0x20), endless]) {
      const response = await send("/v1/chat/completions", {
        method: "POST",
        body,
        duplex: "half",
        headers: { "content-type": "application/json" },
      } as RequestInit);
      await expectRefusal(response, { code: "request_too_large", says: "33554432 bytes" });
    }
    expect((await chat({ ...hello, max_tokens: 1 })).status).toBe(200);
  });
});

describe("a prompt longer than the model's context", () => {
  test("is refused with both counts by the embedded engine", async () => {
    const messages = [{ role: "user", content: "word ".repeat(4000) }];
    const { message } = await expectRefusal(await chat({ ...hello, messages }), {
      code: "context_length_exceeded",
      param: "messages",
      says: /maximum context length is 2048 tokens.* resulted in \d{4} tokens/,
    });
    expect(Number(/resulted in (\d+)/.exec(message)?.[1])).toBeGreaterThan(4000);
  });

  test("is refused as a stream too, before the stream begins", async () => {
    const messages = [{ role: "user", content: "word ".repeat(4000) }];
    await expectRefusal(await chat({ ...hello, messages, stream: true }), {
      code: "context_length_exceeded",
      param: "messages",
      says: "2048 tokens",
    });
  });

  test("is refused by its own count before a provider is asked", async () => {
    const asked = service.emulator.requests.length;
    const messages = [{ role: "user", content: "word ".repeat(2000) }];
    await expectRefusal(await chat({ model: "dear-model", messages }), {
      code: "context_length_exceeded",
      param: "messages",
      says: /maximum context length is 1000 tokens.* resulted in 20\d\d tokens/,
    });
    expect(service.emulator.requests).toHaveLength(asked);
  });
});

describe("an address", () => {
  test.each(["/v1/nothing", "/v2/chat/completions", "/nothing"])(
    "that is not there is told with its method: GET %s",
    async (path) => {
      await expectRefusal(await send(path), { code: "unknown_url", says: `GET ${path}` });
    },
  );

  test.each(["/api/nothing", "/api/evals/nothing", "/api/reports/nothing"])(
    "of the admin API that is not there is told as well: GET %s",
    async (path) => {
      await expectRefusal(await send(path), { code: "unknown_url", says: `GET ${path}` });
    },
  );

  test.each([
    ["DELETE", "/v1/chat/completions", "GET or POST"],
    ["GET", "/v1/embeddings", "POST"],
    ["POST", "/v1/models", "GET"],
  ])("tells which method it takes: %s %s", async (method, path, allowed) => {
    await expectRefusal(await send(path, { method }), {
      code: "method_not_allowed",
      says: `Use ${allowed}`,
    });
  });

  test("is never reached by headers that are too large, nor by bytes that are no HTTP", async () => {
    const huge = await raw(
      `GET /v1/models HTTP/1.1\r\nhost: x\r\nx-big: ${"a".repeat(32_000)}\r\n\r\n`,
    );
    expect(huge).toMatchObject({
      status: 413,
      error: {
        code: "request_too_large",
        param: null,
        message: expect.stringContaining("headers"),
      },
    });
    expect(await raw("GARBAGE\r\n\r\n")).toMatchObject({
      status: 400,
      error: { code: "invalid_value", type: "invalid_request_error", param: null },
    });
    expect((await send("/healthz")).status).toBe(200);
  });

  test("checks its headers: tags that are none are named", async () => {
    const response = await send("/v1/chat/completions", {
      method: "POST",
      body: JSON.stringify(hello),
      headers: { "x-switchyard-tags": "no pair" },
    });
    await expectRefusal(response, {
      code: "invalid_value",
      param: "x-switchyard-tags",
      says: "pairs such as",
    });
  });
});

describe("the admin API's bodies", () => {
  test.each<[string, string, string, unknown, Refusal]>([
    [
      "malformed JSON",
      "POST",
      "/api/projects",
      "{",
      { code: "invalid_json", says: "not valid JSON" },
    ],
    ["an array", "POST", "/api/projects", [], { code: "invalid_type", says: "expected object" }],
    [
      "a missing name",
      "POST",
      "/api/projects",
      {},
      { code: "missing_required_parameter", param: "name", says: "'name'" },
    ],
    [
      "an unknown field",
      "POST",
      "/api/projects",
      { name: "x", colour: "red" },
      { code: "invalid_value", param: "colour", says: "'colour'" },
    ],
    [
      "a budget as a number",
      "POST",
      "/api/projects",
      { name: "x", budget: { limitUsd: 5, period: "day" } },
      { code: "invalid_type", param: "budget.limitUsd", says: "expected string" },
    ],
    [
      "a price with too many places",
      "POST",
      "/api/prices",
      { prices: [{ model: "m", meter: "input", usdPerToken: "0.0000000000001", source: "x" }] },
      { code: "invalid_value", param: "prices[0].usdPerToken", says: "decimal string" },
    ],
    [
      "a price of the year 20",
      "POST",
      "/api/prices",
      {
        prices: [
          {
            model: "m",
            meter: "input",
            usdPerToken: "1",
            source: "x",
            validFrom: "0020-02-29T00:00:00Z",
          },
        ],
      },
      { code: "invalid_value", param: "prices[0].validFrom", says: "after 1970" },
    ],
    [
      "a key that outlives the calendar",
      "POST",
      "/api/keys",
      { name: "x", role: "admin", expiresInSeconds: 9007199254740990 },
      { code: "number_out_of_range", param: "expiresInSeconds", says: "<=3155760000" },
    ],
    [
      "a meter that is none",
      "POST",
      "/api/prices",
      { prices: [{ model: "m", meter: "in", usdPerToken: "1", source: "x" }] },
      { code: "invalid_value", param: "prices[0].meter", says: '"input"' },
    ],
    [
      "a floor above one",
      "PUT",
      "/api/routes/r",
      {
        defaultModel: "m",
        fallbacks: [],
        tasks: [{ task: "t", rules: [], candidates: ["m"], qualityFloor: 2 }],
      },
      { code: "number_out_of_range", param: "tasks[0].qualityFloor", says: "<=1" },
    ],
    [
      "a character that no database keeps",
      "POST",
      "/api/projects",
      { name: "a\u0000b" },
      { code: "invalid_value", says: "cannot be stored" },
    ],
    [
      "half a surrogate pair where it becomes JSON again",
      "PUT",
      "/api/routes/r",
      {
        defaultModel: "dear-model",
        fallbacks: [],
        tasks: [
          {
            task: "t",
            rules: [{ contains: "\ud800" }],
            candidates: ["dear-model"],
            qualityFloor: 0,
          },
        ],
      },
      { code: "invalid_value", says: "cannot be stored" },
    ],
    [
      "more than a megabyte",
      "POST",
      "/api/evals/runs",
      { task: "x".repeat(1 << 20) },
      { code: "request_too_large", says: "1048576 bytes" },
    ],
    [
      "more than a megabyte",
      "POST",
      "/api/projects",
      { name: "x".repeat(1 << 20) },
      { code: "request_too_large", says: "1048576 bytes" },
    ],
  ])("with %s are refused: %s %s", async (_, method, path, body, refusal) => {
    const response = await send(path, {
      method,
      body: typeof body === "string" ? body : JSON.stringify(body),
      key: service.server.adminKey,
    });
    await expectRefusal(response, refusal);
  });

  test.each(["/api/requests?model=%00", "/api/measurements?task=%00", "/api/models?after=%00"])(
    "take no query that no database keeps: %s",
    async (path) => {
      const response = await send(path, { key: service.server.adminKey });
      await expectRefusal(response, { code: "invalid_value", says: "cannot be stored" });
    },
  );

  test("of evals are checked: scorer, dataset, and the dataset's lines", async () => {
    const dataset = "0".repeat(64);
    const run = { task: "t", dataset, candidates: ["support-tiny"], scorer: { type: "taste" } };
    await expectRefusal(await post("/api/evals/runs", run), {
      code: "invalid_value",
      param: "scorer.type",
      says: "'exact'",
    });
    await expectRefusal(await post("/api/evals/runs", { ...run, scorer: { type: "exact" } }), {
      code: "not_found",
      param: "dataset",
      says: dataset.slice(0, 8),
    });
    const lines = '{"input": "a", "ideal": "b"}\n{"input": "a"}\n';
    const pushed = await send("/api/datasets?name=broken", {
      method: "POST",
      body: lines,
      headers: { "content-type": "application/x-ndjson" },
    });
    await expectRefusal(pushed, { code: "invalid_dataset", says: /line 2/i });
    const listed = await call(service.server.url, service.tenant.key, "GET", "/api/datasets");
    expect(listed.body).toMatchObject({ data: [] });
  });
});

/** Bytes as they are, past every check of a client, and the answer to them. */
async function raw(bytes: string): Promise<{ status: number } & ErrorBody> {
  const { hostname, port } = new URL(service.server.url);
  const socket = connect(Number(port), hostname);
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  // A server that refuses early may close while the rest is still being sent.
  socket.on("error", () => {});
  socket.write(bytes);
  await new Promise((resolve) => socket.once("close", resolve));
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
  return { status, ...JSON.parse(answer.slice(answer.indexOf("\r\n\r\n"))) };
}
