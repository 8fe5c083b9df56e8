/** A running server to send wrong requests to, and what every one of its refusals has to look like. */
import { afterAll, beforeAll, expect } from "vitest";
import { type ErrorBody, type ErrorCode, errorTable } from "../../sdk/protocol/errors.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { createTenant, type Tenant } from "./api.ts";
import { type RunningServer, startServer } from "./server.ts";
import { demoBase, type SettingsFile, writeSettings } from "./settings.ts";

/** `key` in place of the tenant's; an empty one sends none. */
export type SendInit = RequestInit & { key?: string };

export type RefusingServer = {
  readonly server: RunningServer;
  /** The provider of `dear-model`, which is priced, and of `model-without-price`. */
  readonly emulator: OpenAiEmulator;
  readonly tenant: Tenant;
  send(path: string, init?: SendInit): Promise<Response>;
  /** A string is sent as it is, anything else as JSON. */
  post(path: string, body: unknown, key?: string): Promise<Response>;
  chat(body: unknown, key?: string): Promise<Response>;
};

/** Starts it before the file's tests and stops it after them. */
export function refusingServer(): RefusingServer {
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

  const send = (path: string, { key = tenant.key, headers, ...rest }: SendInit = {}) =>
    fetch(`${server.url}${path}`, {
      ...rest,
      headers: {
        ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
        ...(typeof rest.body === "string" ? { "content-type": "application/json" } : {}),
        ...headers,
      },
    });
  const post = (path: string, body: unknown, key?: string) =>
    send(path, {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...(key === undefined ? {} : { key }),
    });
  return {
    get server() {
      return server;
    },
    get emulator() {
      return emulator;
    },
    get tenant() {
      return tenant;
    },
    send,
    post,
    chat: (body, key) => post("/v1/chat/completions", body, key),
  };
}

/** A request that is right, to be spoiled. */
export const hello = { model: "support-tiny", messages: [{ role: "user", content: "hello" }] };

export type Refusal = { code: ErrorCode; param?: string | null; says: string | RegExp };

/** The envelope has OpenAI's four keys, and the status and type that the code stands for. */
export async function expectRefusal(response: Response, { code, param = null, says }: Refusal) {
  const body = (await response.json()) as ErrorBody;
  const { status, type, retry } = errorTable[code];
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
  expect(response.headers.get("x-should-retry")).toBe(String(retry));
  return {
    details: body.error.details ?? {},
    headers: response.headers,
    message: body.error.message,
  };
}
