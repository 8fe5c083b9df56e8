import OpenAI from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ErrorBody } from "../sdk/protocol/errors.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = [
  "status:500",
  "status:401",
  "status:429",
  "status:400",
  "no-quota",
  "context",
  "html",
  "error-200",
  "reset",
  "malformed",
  "cut:3",
  "cut:0",
  "end:3",
  "stall:3",
  "error-event:2",
  "no-usage",
  "crlf",
  "split",
  "never",
];
const policy = testSnapshot({
  projects: [acme],
  keys: [
    testKey(apiKey, { projectId: acme.id }),
    testKey("sk-sy-admin-key", { role: "admin" }),
    testKey("sk-sy-revoked-key", { projectId: acme.id, revokedAt: "2026-01-01T00:00:00Z" }),
    testKey("sk-sy-expired-key", { projectId: acme.id, expiresAt: "2026-01-01T00:00:00Z" }),
  ],
  models: [
    testModel("gpt-test"),
    testModel("org/gpt-test"),
    testModel("unpriced-model"),
    testModel("nowhere", { upstream: "missing" }),
    ...faults.map((fault) =>
      testModel(`bad-${fault.replace(":", "-")}`, { upstreamModel: `gpt-test!${fault}` }),
    ),
  ],
  routes: [
    testRoute("auto", "gpt-test"),
    ...faults.map((fault) =>
      testRoute(`safe-${fault.replace(":", "-")}`, `bad-${fault.replace(":", "-")}`, {
        fallbacks: ["gpt-test"],
      }),
    ),
  ],
  prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
});

let emulator: OpenAiEmulator;
let served: TestGateway;

beforeAll(async () => {
  emulator = await startOpenAiEmulator({
    apiKey: "sk-of-the-upstream",
    answer: ({ messages }) => `You said: ${String(messages.at(-1)?.content)}`,
  });
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [
      {
        name: "emulated",
        type: "openai",
        baseUrl: emulator.baseUrl,
        apiKey: "sk-of-the-upstream",
        firstByteTimeoutMs: 300,
        idleTimeoutMs: 300,
      },
    ],
    // Each model here fails by design; the breaker has its own test.
    limits: { breakerFailures: 1000, requestBytesMax: 100_000 },
  });
});

afterAll(async () => {
  await served.close();
  await emulator.close();
});

const clients = [
  ["openai 7", OpenAI],
  ["openai 6", OpenAI6 as unknown as typeof OpenAI],
] as const;

for (const [name, Client] of clients) {
  const connect = (key = apiKey) =>
    new Client({ apiKey: key, baseURL: `${served.url}/v1`, maxRetries: 0 });

  test(`${name} gets a whole answer, its usage, and what it cost`, async () => {
    const { data, response, request_id } = await connect()
      .chat.completions.create({
        model: "gpt-test",
        messages: [{ role: "user", content: "two words" }],
      })
      .withResponse();
    expect(data.choices[0]?.message.content).toBe("You said: two words");
    expect(data.usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 4 });
    expect(request_id).toMatch(/^req_[0-9a-z]{26}$/);
    expect(response.headers.get("x-switchyard-model")).toBe("gpt-test");
    expect(response.headers.get("x-switchyard-cost-usd")).toBe("0.0000027");
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("60");
    expect(response.headers.get("openai-processing-ms")).toMatch(/^\d+$/);
    const settlement = served.accounts.settled.at(-1);
    expect(settlement).toMatchObject({
      answered: { model: "gpt-test", upstream: "emulated" },
      usage: { input: 2, output: 4 },
      estimated: false,
      outcome: "ok",
      httpStatus: 200,
      stream: false,
    });
  });

  test(`${name} reads a stream to its end, without usage when it asked for none`, async () => {
    const before = served.accounts.settled.length;
    const stream = await connect().chat.completions.create({
      model: "auto",
      messages: [{ role: "user", content: "hello 🌍 world" }],
      stream: true,
    });
    let text = "";
    for await (const chunk of stream) {
      expect(chunk.choices).toHaveLength(1);
      text += chunk.choices[0]?.delta.content ?? "";
    }
    expect(text).toBe("You said: hello 🌍 world");
    // Whoever has seen the end finds the request settled.
    expect(served.accounts.settled).toHaveLength(before + 1);
    expect(served.accounts.settled.at(-1)).toMatchObject({
      route: "auto",
      usage: { input: 3, output: 5 },
      estimated: false,
      outcome: "ok",
      stream: true,
      defaultModel: { model: "gpt-test" },
    });
    expect(served.accounts.settled.at(-1)?.ttftMs).toBeTypeOf("number");
  });

  test(`${name} gets the usage chunk, once and last, when it asks for it`, async () => {
    const stream = await connect().chat.completions.create({
      model: "gpt-test",
      messages: [{ role: "user", content: "hello" }],
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = await collect(stream);
    expect(chunks.filter((chunk) => chunk.usage)).toHaveLength(1);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 4 } });
  });

  test(`${name}'s stream helper puts the answer together`, async () => {
    const completion = await connect()
      .chat.completions.stream({
        model: "gpt-test",
        messages: [{ role: "user", content: "x" }],
      })
      .finalChatCompletion();
    expect(completion.choices[0]?.message.content).toBe("You said: x");
  });

  test(`${name} throws its own classes for what can go wrong`, async () => {
    const ask = (model: string, key = apiKey) =>
      connect(key).chat.completions.create({
        model,
        messages: [{ role: "user", content: "x" }],
      });
    await expect(ask("gpt-test", "sk-wrong-key-of-nobody")).rejects.toThrow(
      Client.AuthenticationError,
    );
    await expect(ask("gpt-tset")).rejects.toThrow(Client.NotFoundError);
    await expect(ask("gpt-test", "sk-sy-admin-key")).rejects.toThrow(Client.PermissionDeniedError);
    await expect(ask("bad-status-429")).rejects.toThrow(Client.RateLimitError);
    await expect(ask("bad-status-500")).rejects.toThrow(Client.InternalServerError);
    await expect(ask("bad-status-400")).rejects.toThrow(Client.BadRequestError);
  });

  test(`${name} throws when the upstream breaks a stream, after what had come`, async () => {
    const stream = await connect().chat.completions.create({
      model: "bad-cut-3",
      messages: [{ role: "user", content: "x" }],
      stream: true,
    });
    let text = "";
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    })();
    await expect(reading).rejects.toThrow(Client.APIError);
    expect(text).toBe("You said:");
  });

  test(`${name} lists and retrieves models`, async () => {
    const models = await collect(connect().models.list());
    expect(models.map((model) => model.id)).toEqual(expect.arrayContaining(["gpt-test", "auto"]));
    expect((await connect().models.retrieve("org/gpt-test")).id).toBe("org/gpt-test");
  });
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const post = (body: unknown, init: { key?: string; headers?: Record<string, string> } = {}) =>
  fetch(`${served.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${init.key ?? apiKey}`,
      ...init.headers,
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
const ask = (model: string, more: Record<string, unknown> = {}) =>
  post({ model, messages: [{ role: "user", content: "hello there" }], ...more });
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;

test("errors of identity use OpenAI's words and show no key", async () => {
  const cases = [
    [{ authorization: "" }, 401, "missing_api_key"],
    [{ authorization: "Basic abc" }, 401, "missing_api_key"],
    [{ authorization: "Bearer sk-sy-nobody-knows-this" }, 401, "invalid_api_key"],
    [{ authorization: "Bearer sk-sy-revoked-key" }, 401, "invalid_api_key"],
    [{ authorization: "Bearer sk-sy-expired-key" }, 401, "invalid_api_key"],
    [{ authorization: "Bearer sk-sy-admin-key" }, 403, "permission_denied"],
  ] as const;
  for (const [headers, status, code] of cases) {
    const response = await post({}, { headers });
    const error = await errorOf(response);
    expect([response.status, error.code]).toEqual([status, code]);
    expect(JSON.stringify(error)).not.toContain("nobody-knows");
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  }
});

test("requests that are wrong are refused with the field at fault, before anything is sent", async () => {
  const before = emulator.requests.length;
  const cases = [
    ["{", {}, 400, "invalid_json", null],
    [{ messages: [] }, {}, 400, "missing_required_parameter", "model"],
    [{ model: "gpt-test" }, {}, 400, "missing_required_parameter", "messages"],
    [
      { model: "gpt-test", messages: [{ role: "king", content: "x" }] },
      {},
      400,
      "invalid_value",
      "messages[0].role",
    ],
    [
      "x=1",
      { "content-type": "application/x-www-form-urlencoded" },
      415,
      "unsupported_media_type",
      null,
    ],
    [{ pad: "x".repeat(100_000) }, {}, 413, "request_too_large", null],
  ] as const;
  for (const [body, headers, status, code, param] of cases) {
    const response = await post(body, { headers });
    expect([response.status, await errorOf(response)]).toEqual([
      status,
      expect.objectContaining({
        code,
        param,
        message: expect.any(String),
        type: expect.any(String),
      }),
    ]);
  }
  expect(emulator.requests).toHaveLength(before);
});

test("a body without a length is counted as it comes", async () => {
  const body = new ReadableStream({
    start(controller) {
      for (let i = 0; i < 11; i++) controller.enqueue(new TextEncoder().encode("x".repeat(10_000)));
      controller.close();
    },
  });
  const response = await fetch(`${served.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body,
    duplex: "half",
  } as RequestInit);
  expect([response.status, (await errorOf(response)).code]).toEqual([413, "request_too_large"]);
});

test("an unknown model is answered with the names it may have meant", async () => {
  const error = await errorOf(await ask("gpt-tset"));
  expect(error.message).toContain("`gpt-tset` does not exist or you do not have access to it");
  expect(error.message).toContain("`gpt-test`");
});

test("an upstream's failure is told as the client should act on it", async () => {
  const cases = [
    ["bad-status-500", 502, "upstream_error"],
    ["bad-html", 502, "upstream_error"],
    ["bad-error-200", 502, "upstream_error"],
    ["bad-malformed", 502, "upstream_error"],
    ["bad-reset", 502, "upstream_error"],
    ["bad-cut-3", 502, "upstream_error"],
    ["bad-status-401", 502, "upstream_auth_failed"],
    ["bad-status-429", 429, "rate_limit_exceeded"],
    ["bad-no-quota", 503, "upstream_unavailable"],
    ["bad-context", 400, "context_length_exceeded"],
    ["bad-status-400", 400, "invalid_value"],
    ["bad-never", 504, "upstream_timeout"],
    ["nowhere", 503, "upstream_unavailable"],
  ] as const;
  for (const [model, status, code] of cases) {
    const response = await ask(model);
    const error = await errorOf(response);
    expect([model, response.status, error.code]).toEqual([model, status, code]);
    expect(error.message).not.toContain("sk-");
  }
  const limited = await ask("bad-status-429");
  expect(limited.headers.get("retry-after")).toBe("7");
});

test("each failure before the first byte falls back to the route's next model, streamed or not", async () => {
  const before = [
    "status-500",
    "status-401",
    "status-429",
    "no-quota",
    "context",
    "html",
    "error-200",
  ];
  const cases = [
    ...before.flatMap((fault) => [[fault, false] as const, [fault, true] as const]),
    ["reset", true] as const,
    ["malformed", false] as const,
    ["cut-3", false] as const,
    ["cut-0", true] as const,
    ["never", true] as const,
  ];
  for (const [fault, stream] of cases) {
    const response = await ask(`safe-${fault}`, { stream });
    expect([fault, stream, response.status]).toEqual([fault, stream, 200]);
    expect(response.headers.get("x-switchyard-model")).toBe("gpt-test");
    expect(await response.text()).toContain("said:");
    const { decision } = served.accounts.settled.at(-1) as { decision: { tried: unknown[] } };
    expect(decision.tried).toHaveLength(2);
  }
});

test("what the client itself got wrong does not fall back", async () => {
  const before = emulator.requests.length;
  expect((await ask("safe-status-400")).status).toBe(400);
  expect(emulator.requests).toHaveLength(before + 1);
});

test("a stream that breaks after its first byte ends with the error and without [DONE]", async () => {
  for (const fault of ["cut-3", "end-3", "stall-3", "error-event-2"]) {
    const response = await ask(`safe-${fault}`, { stream: true });
    expect(response.status).toBe(200);
    const frames = (await response.text()).trim().split("\n\n");
    const last = JSON.parse(frames.at(-1)?.slice("data: ".length) ?? "") as ErrorBody;
    expect(last.error.code).toMatch(/^upstream_(error|timeout)$/);
    expect(frames.join()).not.toContain("[DONE]");
    expect(served.accounts.settled.at(-1)).toMatchObject({
      outcome: "upstream_failed",
      estimated: true,
      errorCode: last.error.code,
    });
    expect(served.accounts.settled.at(-1)?.usage?.output).toBeGreaterThan(0);
  }
});

test("streams cut into odd pieces, with CRLF, pass unharmed", async () => {
  for (const fault of ["crlf", "split"]) {
    const response = await ask(`bad-${fault}`, { stream: true });
    const text = await response.text();
    const answer = text
      .split(/\r?\n\r?\n/)
      .filter((frame) => frame.startsWith("data: {"))
      .map((frame) => JSON.parse(frame.slice(6)).choices[0].delta.content ?? "")
      .join("");
    expect(answer).toBe("You said: hello there");
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  }
});

test("usage that the upstream does not tell is counted by us and marked", async () => {
  for (const stream of [false, true]) {
    await (await ask("bad-no-usage", { stream })).text();
    expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "ok", estimated: true });
    expect(served.accounts.settled.at(-1)?.usage?.output).toBeGreaterThan(2);
  }
});

test("an answer without a price has no cost header, rather than a zero", async () => {
  const response = await ask("unpriced-model");
  expect(response.status).toBe(200);
  expect(response.headers.has("x-switchyard-cost-usd")).toBe(false);
});

test("fields that we do not know reach the upstream", async () => {
  await ask("gpt-test", { top_k: 7, chat_template_kwargs: { a: [1] }, stream_options: {} });
  const { body } = emulator.requests.at(-1) ?? {};
  expect(body).toMatchObject({ top_k: 7, chat_template_kwargs: { a: [1] }, model: "gpt-test" });
  expect(body).not.toHaveProperty("stream_options");
});

test("tags and task reach the settlement", async () => {
  const response = await post(
    { model: "gpt-test", messages: [{ role: "user", content: "x" }] },
    { headers: { "x-switchyard-tags": "team=support, eval=run_1", "x-switchyard-task": "triage" } },
  );
  expect(response.headers.get("x-switchyard-task")).toBe("triage");
  expect(served.accounts.settled.at(-1)).toMatchObject({
    task: "triage",
    tags: { team: "support", eval: "run_1" },
  });
});

test.each([
  ["/v1/evals", "/api/evals/runs"],
  ["/v1/evals/eval_1/runs/run_1/cancel", "/api/evals/runs"],
  ["/v1/fine_tuning/jobs", "/api/adapters"],
  ["/v1/threads", "/v1/responses"],
  ["/v1/vector_stores", "not served"],
  ["/v1/evalsomething", "typos"],
])("who asks for %s is told to look at %s", async (path, hint) => {
  const response = await served.gateway.app.fetch(new Request(`http://gateway${path}`));
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({
    error: { code: "unknown_url", message: expect.stringContaining(hint) },
  });
});

test("a gateway that keeps nothing says so, and answers all the same", async () => {
  const client = new OpenAI({ apiKey, baseURL: `${served.url}/v1`, maxRetries: 0 });
  const unknown = { status: 404, code: "unknown_url" };
  await expect(client.responses.retrieve("resp_1")).rejects.toMatchObject(unknown);
  await expect(client.responses.cancel("resp_1")).rejects.toMatchObject(unknown);
  await expect(client.conversations.create()).rejects.toMatchObject(unknown);
  await expect(client.chat.completions.retrieve("chatcmpl-1")).rejects.toMatchObject(unknown);
  await expect(client.chat.completions.list()).rejects.toMatchObject({ status: 405 });
  const ask = { model: "gpt-test", input: "Hi" };
  for (const more of [
    { background: true },
    { conversation: "conv_1" },
    { previous_response_id: "resp_1" },
  ]) {
    const [param] = Object.keys(more);
    await expect(client.responses.create({ ...ask, ...more })).rejects.toMatchObject({
      status: 400,
      code: "unsupported_parameter",
      param,
    });
  }
  const { store } = (await client.responses.create({ ...ask, store: true })) as { store?: boolean };
  expect(store).toBe(false);
  const chat = { model: "gpt-test", messages: [{ role: "user" as const, content: "Hi" }] };
  const answer = await client.chat.completions.create({ ...chat, store: true });
  expect(answer.choices[0]?.finish_reason).toBe("stop");
});
