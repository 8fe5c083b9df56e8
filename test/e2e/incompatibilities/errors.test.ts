/** Incompatibilities 20, 22, 23, 28, 39 and 49: what clients are told when they may not, and before they ask. */
import { expect, test } from "vitest";
import { createTenant, eventually, type Tenant } from "../../support/api.ts";
import { type Case, clients, messages, seeError, seeWhole, testCases } from "./cases.ts";
import { json, speak } from "./wire.ts";

const failing = (status: number) =>
  json({ error: { message: "no", type: "server_error", param: null, code: null } }, status);
const chat = (status: number, expected: object): Case => ({
  name: `20.${status}: an upstream's ${status} is an error of the right class` as Case["name"],
  upstreams: ["openai", "compatible"],
  upstream: failing(status),
  see: (client, model) => seeError(() => seeWhole(client, model)),
  expected,
});
const nothing = {
  type: "jsonl" as const,
  source: { type: "file_content" as const, content: [] },
};
const tooManyAtFirst = new Set<string>();

const cases: Case[] = [
  chat(400, { class: "BadRequestError", status: 400, type: "invalid_request_error" }),
  // The gateway's own credentials are not the client's.
  chat(401, { class: "InternalServerError", status: 502, code: "upstream_auth_failed" }),
  chat(403, { class: "InternalServerError", status: 502, code: "upstream_auth_failed" }),
  chat(404, { class: "InternalServerError", status: 502, code: "upstream_model_not_found" }),
  chat(422, { class: "BadRequestError", status: 400 }),
  chat(429, { class: "RateLimitError", status: 429, code: "rate_limit_exceeded" }),
  chat(500, { class: "InternalServerError", status: 502, code: "upstream_error" }),
  chat(503, { class: "InternalServerError", status: 503, code: "upstream_unavailable" }),
  {
    name: "20.5: what the gateway refuses itself has the class that clients catch",
    upstream: speak("never"),
    see: async (client, model) => {
      const other = client.withOptions({ apiKey: "sk-wrong-key-of-nobody" });
      return [
        await seeError(() => other.models.list()),
        await seeError(() => seeWhole(client, "no-such-model")),
        await seeError(() => seeWhole(client, model, { temperature: 9 })),
        await seeError(() => seeWhole(client, model, { messages: [] })),
        await seeError(() => client.get("/no/such/address")),
        await seeError(() => client.put("/chat/completions", { body: {} })),
        await seeError(() =>
          seeWhole(client, model, {
            messages: [{ role: "user", content: "x".repeat(300_000) }],
          }),
        ),
      ];
    },
    expected: [
      { class: "AuthenticationError", status: 401, code: "invalid_api_key" },
      { class: "NotFoundError", status: 404, code: "model_not_found", param: "model" },
      { class: "BadRequestError", status: 400, param: "temperature" },
      { class: "BadRequestError", status: 400, param: "messages" },
      { class: "NotFoundError", status: 404, code: "unknown_url" },
      { status: 405, code: "method_not_allowed" },
      { status: 413, code: "request_too_large" },
    ],
  },
  {
    name: "23: a client that is told to wait, waits and succeeds",
    upstreams: ["openai", "compatible"],
    upstream: (response, request) => {
      const { model } = request.body;
      const refuses = !tooManyAtFirst.has(model);
      if (refuses) tooManyAtFirst.add(model);
      else tooManyAtFirst.delete(model);
      const answer = refuses
        ? json({ error: { message: "slow down", type: "requests" } }, 429, {
            "retry-after-ms": "50",
          })
        : speak("fine");
      answer(response, request);
    },
    see: async (client, model) =>
      (await seeWhole(client.withOptions({ maxRetries: 1 }), model)).content,
    expected: "fine",
  },
  {
    name: "28: a model's name may hold slashes, and one that is not there is not found",
    upstream: speak("never"),
    see: async (client, model) => {
      const { id, object, created, owned_by } = await client.models.retrieve(model);
      const types = [Number.isInteger(created), typeof owned_by];
      return [id, object, ...types, await seeError(() => client.models.retrieve("org/no:such@1"))];
    },
    expected: [
      "28/openai",
      "model",
      true,
      "string",
      { class: "NotFoundError", status: 404, code: "model_not_found" },
    ],
  },
  {
    // Clients of one age cancel at `/runs/{id}`, those of the other at `/runs/{id}/cancel`.
    name: "49: evals, which are not served, are told to be so at every address",
    upstream: speak("never"),
    see: async ({ evals }) => [
      await seeError(() => evals.list()),
      await seeError(() => evals.retrieve("eval_1")),
      await seeError(() => evals.runs.cancel("run_1", { eval_id: "eval_1" })),
      await seeError(() => evals.runs.create("eval_1", { data_source: nothing })),
    ],
    expected: Array.from({ length: 4 }, () => ({
      class: "NotFoundError",
      status: 404,
      code: "unknown_url",
    })),
  },
];

testCases(cases, {
  settings: { gateway: { requestBytesMax: 200_000, breakerFailures: 1000 } },
  more(stage) {
    const post = (path: string, init: RequestInit) =>
      fetch(`${stage().url}${path}`, { method: "POST", ...init });
    const key = () => ({ authorization: `Bearer ${stage().server.apiKey}` });
    const typed = () => ({ ...key(), "content-type": "application/json" });

    test("20: every refusal is an envelope with its four keys and a request's id", async () => {
      const { url, server } = stage();
      const refusals: [number, Response][] = [
        [400, await post("/chat/completions", { headers: typed(), body: "{" })],
        [400, await post("/chat/completions", { headers: typed(), body: "[]" })],
        [401, await fetch(`${url}/models`)],
        [
          403,
          await fetch(`${server.url}/api/projects`, {
            method: "POST",
            headers: typed(),
            body: '{"name":"mine"}',
          }),
        ],
        [404, await fetch(`${url}/nothing`, { headers: key() })],
        [405, await fetch(`${url}/embeddings`, { headers: key() })],
        [413, await post("/embeddings", { headers: typed(), body: " ".repeat(300_000) })],
        [
          415,
          await post("/chat/completions", {
            headers: { ...key(), "content-type": "text/xml" },
            body: "<a/>",
          }),
        ],
        [
          502,
          await post("/chat/completions", {
            headers: typed(),
            body: JSON.stringify({ model: "20.500/openai", messages }),
          }),
        ],
      ];
      for (const [status, response] of refusals) {
        expect(response.status).toBe(status);
        expect(response.headers.get("content-type")).toMatch(/^application\/json/);
        expect(response.headers.get("x-request-id")).toMatch(/^req_/);
        const { error } = (await response.json()) as { error: object };
        expect(error).toMatchObject({ message: expect.any(String), type: expect.any(String) });
        expect(Object.keys(error)).toEqual(expect.arrayContaining(["param", "code"]));
      }
    });

    test("39: a browser's preflight is answered with the headers that it asks for", async () => {
      const asked =
        "authorization,content-type,user-agent,x-stainless-arch,x-stainless-retry-count,x-stainless-timeout";
      const response = await fetch(`${stage().url}/chat/completions`, {
        method: "OPTIONS",
        headers: {
          origin: "https://app.example",
          "access-control-request-method": "POST",
          "access-control-request-headers": asked,
        },
      });
      expect(response.ok).toBe(true);
      expect(response.headers.get("access-control-allow-headers")).toBe(asked);
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      const models = await fetch(`${stage().url}/models`, { headers: key() });
      expect(models.headers.get("access-control-expose-headers")).toContain("x-request-id");
    });

    for (const { version, OpenAI } of clients) {
      test(`22: a budget that is spent is no limit that passes: openai ${version} asks once`, async () => {
        const { server, url } = stage();
        const limit = { budget: { limitUsd: "0.00001", period: "total" } };
        const { key: apiKey } = await createTenant(
          server.url,
          server.adminKey,
          `spent-${version}`,
          limit,
        );
        let asked = 0;
        const counting: typeof fetch = (...call) => {
          asked++;
          return fetch(...call);
        };
        const client = new OpenAI({ baseURL: url, apiKey, maxRetries: 3, fetch: counting });
        const ask = () =>
          client.chat.completions.create({ model: "28/openai", messages, max_tokens: 1 });
        const thrown = await eventually("the budget to be spent", async () => {
          asked = 0;
          const error = await seeError(ask);
          return error.class === null ? undefined : error;
        });
        expect(thrown).toMatchObject({
          class: "RateLimitError",
          status: 429,
          code: "insufficient_quota",
          type: "insufficient_quota",
        });
        expect(asked).toBe(1);
      });
    }

    test("23: a limit that passes within a minute says when", async () => {
      const { server, url } = stage();
      const limits = { limits: { requestsPerMinute: 1 } };
      const hurried: Tenant = await createTenant(server.url, server.adminKey, "hurried", limits);
      const ask = () =>
        fetch(`${url}/chat/completions`, {
          method: "POST",
          headers: { authorization: `Bearer ${hurried.key}`, "content-type": "application/json" },
          body: JSON.stringify({ model: "28/openai", messages }),
        });
      await ask();
      const refused = await ask();
      expect(refused.status).toBe(429);
      const waitMs = Number(refused.headers.get("retry-after-ms"));
      expect(waitMs).toBeGreaterThan(0);
      // Official clients take a longer one for none and ask again at once.
      expect(waitMs).toBeLessThanOrEqual(60_000);
      expect(refused.headers.get("x-should-retry")).toBe("true");
    });
  },
});
