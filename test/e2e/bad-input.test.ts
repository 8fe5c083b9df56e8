/** Wrong requests against the running product: each gets one clear error in OpenAI's envelope. */
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { type ErrorBody, type ErrorCode, errorTable } from "../../sdk/protocol/errors.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import {
  buildAdapter,
  joinSafetensors,
  type TestTensor,
  writeSafetensors,
} from "../support/adapter.ts";
import { call, createTenant, eventually, pushAdapter, type Tenant } from "../support/api.ts";
import { pushForm } from "../support/registry.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { demoBase, demoModelPath, type SettingsFile, writeSettings } from "../support/settings.ts";

let emulator: OpenAiEmulator;
let settings: SettingsFile;
let server: RunningServer;
let tenant: Tenant;
beforeAll(async () => {
  emulator = await startOpenAiEmulator();
  settings = await writeSettings({
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    models: [
      {
        id: "dear-model",
        upstream: "emulated",
        contextLength: 1000,
        tokenizer: "o200k_base",
        prices: { input: "0.10", output: "0.50" },
      },
      { id: "model-without-price", upstream: "emulated" },
    ],
    embedded: demoBase,
  });
  server = await startServer({ env: { SWITCHYARD_CONFIG: settings.path } });
  tenant = await createTenant(server.url, server.adminKey, "tenant");
});
afterAll(async () => {
  await server?.stop();
  await settings?.remove();
  await emulator?.close();
});

type Refusal = { code: ErrorCode; param?: string | null; says: string | RegExp };

/** The envelope has OpenAI's four keys, and the status and type that the code stands for. */
async function expectRefusal(response: Response, { code, param = null, says }: Refusal) {
  const body = (await response.json()) as ErrorBody;
  const { status, type } = errorTable[code];
  expect(body).toEqual({
    error: {
      message:
        typeof says === "string" ? expect.stringContaining(says) : expect.stringMatching(says),
      type,
      param,
      code,
      ...(body.error.details === undefined ? {} : { details: expect.any(Object) }),
    },
  });
  expect(response.status).toBe(status);
  expect(response.headers.get("content-type")).toContain("application/json");
  expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  expect(response.headers.get("x-should-retry")).toBe(String(errorTable[code].retry));
  return {
    details: body.error.details ?? {},
    headers: response.headers,
    message: body.error.message,
  };
}

function send(path: string, init: RequestInit & { key?: string } = {}): Promise<Response> {
  const { key = tenant.key, headers, ...rest } = init;
  return fetch(`${server.url}${path}`, {
    ...rest,
    headers: {
      ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
      ...(typeof rest.body === "string" ? { "content-type": "application/json" } : {}),
      ...headers,
    },
  });
}

const post = (path: string, body: unknown, key?: string) =>
  send(path, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...(key === undefined ? {} : { key }),
  });
const chat = (body: unknown, key?: string) => post("/v1/chat/completions", body, key);
const hello = { model: "support-tiny", messages: [{ role: "user", content: "hello" }] };
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
      { code: "unsupported_parameter", param: "tools", says: "'tools' is not supported" },
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
      `{"model": "support-tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "extra": ${nested(5000)}}`,
      '{"model": "support-tiny", "max_tokens": 1, "__proto__": {"stream": true}, "messages": [{"role": "user", "content": "x", "__proto__": {"role": "robot"}}]}',
    ]) {
      const response = await chat(body);
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ object: "chat.completion" });
    }
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
    const asked = emulator.requests.length;
    const messages = [{ role: "user", content: "word ".repeat(2000) }];
    await expectRefusal(await chat({ model: "dear-model", messages }), {
      code: "context_length_exceeded",
      param: "messages",
      says: /maximum context length is 1000 tokens.* resulted in 20\d\d tokens/,
    });
    expect(emulator.requests).toHaveLength(asked);
  });
});

describe("a model's name", () => {
  let rival: Tenant;
  beforeAll(async () => {
    rival = await createTenant(server.url, server.adminKey, "rival");
    const pushed = await pushAdapter(
      server.url,
      rival.key,
      { base: "support-tiny", name: "secret-tone", alias: "candidate" },
      demoModelPath("adapters/tone-formal"),
    );
    expect(pushed.status).toBe(201);
  });

  test.each(["support-tinny", "constructor", "__proto__", "support-tiny:", "a b", "x".repeat(400)])(
    "that nobody has is not found: %s",
    async (model) => {
      const { details } = await expectRefusal(await chat({ ...hello, model }), {
        code: "model_not_found",
        param: "model",
        says: `\`${model.slice(0, 200)}\``,
      });
      expect(details).toEqual({ nearMatches: model === "support-tinny" ? ["support-tiny"] : [] });
    },
  );

  test("with a slip is answered with the near matches that the caller may use, and no others", async () => {
    const model = "support-tiny:secret-tome";
    const own = await expectRefusal(await chat({ ...hello, model }, rival.key), {
      code: "model_not_found",
      param: "model",
      says: "Did you mean `support-tiny:secret-tone",
    });
    expect(own.details.nearMatches).toContain("support-tiny:secret-tone");
    const foreign = await expectRefusal(await chat({ ...hello, model }), {
      code: "model_not_found",
      param: "model",
      says: model,
    });
    expect(JSON.stringify(foreign.details)).not.toContain("secret-tone");
  });

  test("of another tenant's adapter does not exist, by any of its names", async () => {
    const listed = await call(server.url, rival.key, "GET", "/api/adapters");
    const [adapter] = (listed.body as { data: { id: string; versions: { digest: string }[] }[] })
      .data;
    const digest = adapter?.versions[0]?.digest;
    for (const ref of ["secret-tone@1", "secret-tone@candidate", `secret-tone@sha256-${digest}`]) {
      const { message } = await expectRefusal(
        await chat({ ...hello, model: `support-tiny:${ref}` }),
        {
          code: "model_not_found",
          param: "model",
          says: "does not exist or you do not have access",
        },
      );
      expect(message.replace(`support-tiny:${ref}`, "")).not.toContain("secret");
    }
    await expectRefusal(
      await chat({ ...hello, adapters: [{ model: `sha256-${digest}`, weight: 1 }] }),
      { code: "model_not_found", param: "adapters[0].model", says: "does not exist" },
    );
    await expectRefusal(await send(`/v1/models/support-tiny:secret-tone`), {
      code: "model_not_found",
      param: "model",
      says: "does not exist",
    });
    await expectRefusal(await send(`/api/adapters/${adapter?.id}`), {
      code: "not_found",
      says: `${adapter?.id}`,
    });
  });
});

describe("an API key", () => {
  test("that is missing is asked for, with the header that it belongs in", async () => {
    const says = "Authorization: Bearer";
    await expectRefusal(await chat(hello, ""), { code: "missing_api_key", says });
    await expectRefusal(await send("/v1/models", { key: "" }), { code: "missing_api_key", says });
    await expectRefusal(await send("/api/adapters", { key: "" }), {
      code: "missing_api_key",
      says,
    });
    await expectRefusal(await send("/api/datasets", { key: "" }), {
      code: "missing_api_key",
      says,
    });
  });

  test.each(["sk-wrong-key-of-nobody", "x", "sk-sy-admin-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])(
    "that is nobody's is refused and not repeated: %s",
    async (key) => {
      for (const response of [
        await chat(hello, key),
        await send("/api/adapters", { key }),
        await send("/api/datasets", { key }),
        await send("/api/reports/costs", { key }),
      ]) {
        const { message } = await expectRefusal(response, {
          code: "invalid_api_key",
          says: "Incorrect API key provided: ",
        });
        expect(message).not.toContain(` ${key}.`);
      }
    },
  );

  test("that was revoked works no more from the next request on", async () => {
    const made = await post(
      "/api/keys",
      { name: "short", projectId: tenant.projectId },
      server.adminKey,
    );
    const { id, key } = (await made.json()) as { id: string; key: string };
    expect((await chat({ ...hello, max_tokens: 1 }, key)).status).toBe(200);
    await send(`/api/keys/${id}`, { method: "DELETE", key: server.adminKey });
    await expectRefusal(await chat(hello, key), {
      code: "invalid_api_key",
      says: "Incorrect API key provided: ",
    });
    await expectRefusal(await send("/api/adapters", { key }), {
      code: "invalid_api_key",
      says: "",
    });
  });

  test("that has expired is refused with the moment it did", async () => {
    const made = await post(
      "/api/keys",
      { name: "brief", projectId: tenant.projectId, expiresInSeconds: 1 },
      server.adminKey,
    );
    const { key, expiresAt } = (await made.json()) as { key: string; expiresAt: string };
    const refused = await eventually("the key to expire", async () => {
      const response = await chat({ ...hello, max_tokens: 1 }, key);
      return response.status === 200 ? undefined : response;
    });
    await expectRefusal(refused, { code: "invalid_api_key", says: `expired at ${expiresAt}` });
  });

  test("of an administrator runs no model, and a project's changes no policy", async () => {
    await expectRefusal(await chat(hello, server.adminKey), {
      code: "permission_denied",
      says: "Create a key for a project",
    });
    await expectRefusal(await post("/api/projects", { name: "mine" }), {
      code: "permission_denied",
      says: /admin/i,
    });
  });
});

describe("an adapter that is pushed", () => {
  let shape: BaseShape;
  beforeAll(async () => {
    const found = await call(server.url, tenant.key, "GET", "/api/models/support-tiny");
    shape = (found.body as { base: { shape: BaseShape } }).base.shape;
  });

  const manifest = { base: "support-tiny", name: "broken" };
  const tensorName = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  type Files = ReturnType<typeof buildAdapter>;
  const push = (files: Files, more: object = {}) =>
    send("/api/adapters", { method: "POST", body: pushForm({ ...manifest, ...more }, files) });
  const good = () => buildAdapter({ shape });
  const bytes = (...values: number[]) => Uint8Array.from(values);

  /** The good adapter with its first tensor changed. */
  function withTensor(change: (tensor: TestTensor) => TestTensor): Files {
    const { config, weights } = good();
    const headerBytes = Number(new DataView(weights.buffer).getBigUint64(0, true));
    const header = JSON.parse(
      Buffer.from(weights.subarray(8, 8 + headerBytes)).toString(),
    ) as Record<string, { shape: number[]; data_offsets: [number, number] }>;
    const tensors = Object.entries(header).map(
      ([
        name,
        {
          shape: size,
          data_offsets: [begin, end],
        },
      ]) => ({
        name,
        shape: size,
        values: new Float32Array(
          weights.slice(8 + headerBytes + begin, 8 + headerBytes + end).buffer,
        ),
      }),
    );
    return {
      config,
      weights: writeSafetensors(tensors.map((it) => (it.name === tensorName ? change(it) : it))),
    };
  }

  const broken: [string, () => Files, Refusal][] = [
    [
      "ends in the middle",
      () => ({ ...good(), weights: good().weights.slice(0, -100) }),
      { code: "invalid_adapter", says: /tensor '.*lora_[AB].weight'|bytes/ },
    ],
    [
      "is empty",
      () => ({ ...good(), weights: bytes() }),
      { code: "invalid_adapter", says: "shorter than its 8-byte length field" },
    ],
    [
      "claims a header longer than itself",
      () => ({ ...good(), weights: bytes(255, 255, 255, 255, 255, 255, 255, 127, 0x7b) }),
      { code: "invalid_adapter", says: "header claims 9223372036854775807 bytes" },
    ],
    [
      "has a header that is no JSON",
      () => ({ ...good(), weights: joinSafetensors('{"a": ', bytes()) }),
      { code: "invalid_adapter", says: "header" },
    ],
    [
      "is a pickle",
      () => ({ ...good(), weights: bytes(0x80, 0x02, 0x7d, 0x71, 0x00, 0x2e, 0x2e, 0x2e, 0x2e) }),
      { code: "invalid_adapter", says: "Only safetensors is accepted, because loading a pickle" },
    ],
    [
      "is PyTorch's archive",
      () => ({ ...good(), weights: bytes(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0, 0, 0) }),
      { code: "invalid_adapter", says: "pickle or an archive" },
    ],
    [
      "has a tensor of a wrong shape",
      () => withTensor((it) => ({ ...it, shape: it.shape.toReversed() })),
      { code: "invalid_adapter", says: `'${tensorName}' has shape` },
    ],
    [
      "holds a NaN",
      () => withTensor((it) => ({ ...it, values: it.values.with(3, Number.NaN) })),
      { code: "invalid_adapter", says: `'${tensorName}' holds a value at index 3` },
    ],
    [
      "holds an infinity",
      () => withTensor((it) => ({ ...it, values: it.values.with(0, Number.NEGATIVE_INFINITY) })),
      { code: "invalid_adapter", says: `'${tensorName}' holds a value at index 0` },
    ],
    [
      "lacks a tensor that its config targets",
      () => withTensor((it) => ({ ...it, name: "another.weight" })),
      { code: "invalid_adapter", says: `'${tensorName}'` },
    ],
    [
      "has integers for weights",
      () => withTensor((it) => ({ ...it, dtype: "I32" })),
      { code: "unsupported_adapter", says: `'${tensorName}' has dtype I32` },
    ],
    [
      "was trained on another base",
      () => buildAdapter({ shape, config: { base_model_name_or_path: "meta-llama/Llama-3.1-8B" } }),
      {
        code: "adapter_base_mismatch",
        param: "base_model_name_or_path",
        says: "'meta-llama/Llama-3.1-8B'",
      },
    ],
    [
      "has more layers than the base",
      () => buildAdapter({ shape: { ...shape, layers: shape.layers + 1 } }),
      { code: "invalid_adapter", says: "layers." },
    ],
    [
      "is of a rank that no slot holds",
      () => buildAdapter({ shape, rank: 512 }),
      { code: "adapter_rank_too_large", says: "rank 512" },
    ],
    [
      "needs what is not served",
      () => buildAdapter({ shape, config: { use_dora: true } }),
      { code: "unsupported_adapter", param: "use_dora", says: "use_dora" },
    ],
    [
      "has a config that is no JSON",
      () => ({ ...good(), config: bytes(0x7b, 0x22) }),
      { code: "invalid_adapter", says: "adapter_config.json" },
    ],
    [
      "has a config that runs away",
      () => buildAdapter({ shape, config: { target_modules: "(a+)+$".repeat(400) } }),
      { code: "invalid_adapter", param: "target_modules", says: "target_modules" },
    ],
  ];

  test.each(broken)("and %s is refused, and nothing is stored", async (_, files, refusal) => {
    const before = storedFiles();
    await expectRefusal(await push(files()), refusal);
    expect(storedFiles()).toEqual(before);
    const listed = await call(server.url, tenant.key, "GET", "/api/adapters");
    expect(listed.body).toMatchObject({ data: [] });
  });

  test.each<[string, object, Refusal]>([
    [
      "a base that is not there",
      { base: "nothing" },
      { code: "model_not_found", param: "base", says: "nothing" },
    ],
    [
      "a base that takes no adapters",
      { base: "dear-model" },
      { code: "adapter_base_mismatch", param: "base", says: "'dear-model'" },
    ],
    [
      "a name that is a path",
      { name: "../x" },
      { code: "invalid_value", param: "manifest.name", says: "lower-case" },
    ],
    [
      "an unknown field",
      { colour: "red" },
      { code: "invalid_value", param: "manifest.colour", says: "'manifest.colour'" },
    ],
    [
      "another project",
      { projectId: "proj_00000000000000000000000000" },
      { code: "not_found", says: "proj_0000" },
    ],
    [
      "all projects",
      { shared: true },
      { code: "permission_denied", param: "manifest.shared", says: "admin" },
    ],
  ])("for %s is refused, and nothing is stored", async (_, more, refusal) => {
    const before = storedFiles();
    await expectRefusal(await push(good(), more), refusal);
    expect(storedFiles()).toEqual(before);
  });

  test("in a form that lacks a file, or in no form, is told which part is missing", async () => {
    const form = pushForm(manifest, good());
    form.delete("adapter_model.safetensors");
    await expectRefusal(await send("/api/adapters", { method: "POST", body: form }), {
      code: "missing_required_parameter",
      param: "adapter_model.safetensors",
      says: "'adapter_model.safetensors'",
    });
    await expectRefusal(await post("/api/adapters", manifest), {
      code: "unsupported_media_type",
      says: "multipart/form-data",
    });
  });

  test("whole is accepted after all those that were not", async () => {
    const response = await push(good(), { name: "whole" });
    expect([response.status, await response.json()]).toMatchObject([
      201,
      { adapter: { name: "whole" }, version: { version: 1 } },
    ]);
  });

  function storedFiles(): string[] {
    return readdirSync(join(server.dataDir, "artifacts"), {
      recursive: true,
      encoding: "utf8",
    }).sort();
  }
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
    ["DELETE", "/v1/chat/completions", "POST"],
    ["GET", "/v1/chat/completions", "POST"],
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
      key: server.adminKey,
    });
    await expectRefusal(response, refusal);
  });

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
    const listed = await call(server.url, tenant.key, "GET", "/api/datasets");
    expect(listed.body).toMatchObject({ data: [] });
  });
});

describe("limits and money", () => {
  const ask = { model: "dear-model", max_tokens: 16, messages: [{ role: "user", content: "hi" }] };

  test("a budget that is spent refuses with what was spent, and lets nothing through to the provider", async () => {
    const budgeted = await createTenant(server.url, server.adminKey, "budgeted", {
      budget: { limitUsd: "0.00005", period: "total" },
    });
    let spent = 0n;
    const refused = await eventually("the budget to be spent", async () => {
      const response = await chat(ask, budgeted.key);
      if (response.status !== 200) return response;
      spent += parseUsd(response.headers.get("x-switchyard-cost-usd") ?? "not told");
      return undefined;
    });
    const asked = emulator.requests.length;
    const { details } = await expectRefusal(refused, {
      code: "insufficient_quota",
      says: `$${formatUsd(spent)} is spent`,
    });
    expect(spent).toBeGreaterThan(0n);
    expect(details).toMatchObject({
      scope: "project",
      id: budgeted.projectId,
      limitUsd: "0.00005",
      spentUsd: formatUsd(spent),
      reservedUsd: "0",
      resetAt: null,
    });
    expect(emulator.requests).toHaveLength(asked);

    await send(`/api/projects/${budgeted.projectId}`, {
      method: "PATCH",
      body: JSON.stringify({ budget: { limitUsd: "1", period: "total" } }),
      key: server.adminKey,
    });
    expect((await chat(ask, budgeted.key)).status).toBe(200);
  });

  test("a rate limit refuses with the time to wait and OpenAI's headers", async () => {
    const limited = await createTenant(server.url, server.adminKey, "limited", {
      limits: { requestsPerMinute: 2 },
    });
    for (const remaining of ["1", "0"]) {
      const response = await chat(ask, limited.key);
      expect(response.status).toBe(200);
      expect(response.headers.get("x-ratelimit-limit-requests")).toBe("2");
      expect(response.headers.get("x-ratelimit-remaining-requests")).toBe(remaining);
      await response.text();
    }
    const { headers, details } = await expectRefusal(await chat(ask, limited.key), {
      code: "rate_limit_exceeded",
      says: "requests per min (RPM): Limit 2, Used 2, Requested 1. Please try again in",
    });
    expect(Number(headers.get("retry-after-ms"))).toBeGreaterThan(0);
    expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect(headers.get("x-ratelimit-limit-requests")).toBe("2");
    expect(headers.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(headers.get("x-ratelimit-reset-requests")).toMatch(/s$/);
    expect(details).toMatchObject({ kind: "requests", limit: 2, scope: "project" });
  });

  test("an input larger than a minute's tokens is told that waiting does not help", async () => {
    const limited = await createTenant(server.url, server.adminKey, "token-limited", {
      limits: { tokensPerMinute: 20 },
    });
    const messages = [{ role: "user", content: "word ".repeat(100) }];
    await expectRefusal(await chat({ ...ask, messages }, limited.key), {
      code: "rate_limit_exceeded",
      says: "waiting does not help",
    });
  });

  test("an unknown price is unpriced and never zero, and is refused where a project wants that", async () => {
    const unpriced = { ...ask, model: "model-without-price" };
    const allowing = await createTenant(server.url, server.adminKey, "allowing");
    const response = await chat(unpriced, allowing.key);
    expect(response.status).toBe(200);
    expect(response.headers.has("x-switchyard-cost-usd")).toBe(false);
    await response.text();
    const report = await call(server.url, allowing.key, "GET", "/api/reports/costs?group_by=model");
    expect(report.body).toMatchObject({
      data: [{ model: "model-without-price", requests: 1, unpriced_requests: 1, cost_usd: "0" }],
      totals: { requests: 1, unpriced_requests: 1 },
    });
    const requests = await call(server.url, allowing.key, "GET", "/api/requests");
    expect(requests.body).toMatchObject({ data: [{ pricing: "unpriced", cost_usd: null }] });

    const refusing = await createTenant(server.url, server.adminKey, "refusing", {
      unpriced: "refuse",
    });
    await expectRefusal(await chat(unpriced, refusing.key), {
      code: "no_price",
      param: "model",
      says: "model-without-price",
    });
    expect((await chat(ask, refusing.key)).status).toBe(200);
  });
});

/** Bytes as they are, past every check of a client, and the answer to them. */
async function raw(bytes: string): Promise<{ status: number } & ErrorBody> {
  const { hostname, port } = new URL(server.url);
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
