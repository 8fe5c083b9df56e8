/** The official clients, unchanged, against the running product: openai 7 and 6 from npm, and the Python one. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import OpenAI7 from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { call, createTenant, type Tenant } from "../support/api.ts";
import { findPython } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { demoBase, demoModelPath, type SettingsFile, writeSettings } from "../support/settings.ts";
import { type OpenStores, storeKinds } from "../support/stores.ts";

const model = "support-tiny:support-triage";
const messages = [
  {
    role: "user" as const,
    content: "Triage this message: I was charged twice, please help today.",
  },
];
const triage = /^\{"category":"\w+","priority":"\w+","sentiment":"\w+"\}$/;
const python = await findPython("openai");

/** Longer than five words, so that a stream of it can break in the middle. */
const longAnswer = "once upon a time there was a gateway that broke";

for (const stores of await storeKinds()) {
  describe.skipIf(stores.skipped)(`on ${stores.name}`, () => {
    let emulator: OpenAiEmulator;
    let settings: SettingsFile;
    let opened: OpenStores;
    let server: RunningServer;
    let hurried: Tenant;
    beforeAll(async () => {
      emulator = await startOpenAiEmulator({ answer: () => longAnswer });
      settings = await writeSettings({
        upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
        models: [{ id: "breaking-model", upstream: "emulated", upstreamModel: "any!cut:3" }],
        routes: [{ name: "auto", defaultModel: "support-tiny" }],
        embedded: {
          ...demoBase,
          adapters: [{ name: "support-triage", folder: demoModelPath("adapters/support-triage") }],
        },
      });
      opened = await stores.open();
      server = await startServer({ env: { ...opened.env, SWITCHYARD_CONFIG: settings.path } });
      const limits = { requestsPerMinute: 1 };
      hurried = await createTenant(server.url, server.adminKey, "hurried", { limits });
      await ask(hurried);
    });
    afterAll(async () => {
      await server?.stop();
      await opened?.close();
      await settings?.remove();
      await emulator?.close();
    });

    const ask = ({ key }: Tenant) =>
      call(server.url, key, "POST", "/v1/chat/completions", { model, messages, max_tokens: 1 });

    describe.each([
      { version: "7", OpenAI: OpenAI7 },
      { version: "6", OpenAI: OpenAI6 as unknown as typeof OpenAI7 },
    ])("openai $version from npm", ({ OpenAI }) => {
      const client = (apiKey = server.apiKey) =>
        new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });

      test("gets an answer with usage and a request id", async () => {
        const answer = await client().chat.completions.create({ model, messages });
        expect(answer.choices[0]?.message).toMatchObject({
          role: "assistant",
          content: expect.stringMatching(triage),
        });
        expect(answer.choices[0]?.finish_reason).toBe("stop");
        expect(answer.usage?.total_tokens).toBe(
          (answer.usage?.prompt_tokens ?? 0) + (answer.usage?.completion_tokens ?? 0),
        );
        expect(answer._request_id).toMatch(/^req_/);
      });

      test("gets an answer to a prompt that takes several steps to read", async () => {
        const content = "The reader lost the key of the gate. ".repeat(120);
        const answer = await client().chat.completions.create({
          model,
          messages: [{ role: "user", content }],
          max_tokens: 4,
        });
        expect(answer.usage?.prompt_tokens).toBeGreaterThan(1000);
        expect(answer.choices[0]?.message.content).not.toBe("");
      });

      test("streams the same text that it answers whole, with usage only when asked", async () => {
        const whole = await client().chat.completions.create({ model, messages, temperature: 0 });
        const stream = await client().chat.completions.create({
          model,
          messages,
          temperature: 0,
          stream: true,
        });
        let text = "";
        let usages = 0;
        for await (const chunk of stream) {
          text += chunk.choices[0]?.delta.content ?? "";
          if (chunk.usage) usages++;
        }
        expect(text).toBe(whole.choices[0]?.message.content);
        expect(usages).toBe(0);

        const counted = await client().chat.completions.create({
          model,
          messages,
          stream: true,
          stream_options: { include_usage: true },
        });
        const all = [];
        for await (const chunk of counted) all.push(chunk);
        expect(all.at(-1)).toMatchObject({
          choices: [],
          usage: { total_tokens: whole.usage?.total_tokens },
        });
      });

      test("its stream helper finds role, text and finish reason", async () => {
        const final = await client()
          .chat.completions.stream({ model, messages })
          .finalChatCompletion();
        expect(final.choices[0]?.message.content).toMatch(triage);
      });

      test("lists models and finds one by a name with a colon", async () => {
        const ids = (await client().models.list()).data.map(({ id }) => id);
        expect(ids).toEqual(expect.arrayContaining(["support-tiny", model, "auto"]));
        expect((await client().models.retrieve(model)).id).toBe(model);
      });

      test("throws its own classes for a wrong key, an unknown model, a wrong value, too long a prompt and a limit", async () => {
        const failures: [() => Promise<unknown>, unknown, object][] = [
          [
            () => client("sk-wrong-key-of-nobody").models.list(),
            OpenAI.AuthenticationError,
            { status: 401, code: "invalid_api_key", requestID: expect.stringMatching(/^req_/) },
          ],
          [
            () => client().chat.completions.create({ model: "support-tinny", messages }),
            OpenAI.NotFoundError,
            {
              status: 404,
              code: "model_not_found",
              param: "model",
              message: expect.stringContaining("support-tiny"),
            },
          ],
          [
            () => client().chat.completions.create({ model, messages, temperature: 9 }),
            OpenAI.BadRequestError,
            { status: 400, param: "temperature", type: "invalid_request_error" },
          ],
          [
            () =>
              client().chat.completions.create({
                model,
                stream: true,
                messages: [{ role: "user", content: "word ".repeat(4000) }],
              }),
            OpenAI.BadRequestError,
            {
              status: 400,
              code: "context_length_exceeded",
              message: expect.stringContaining("2048"),
            },
          ],
          [
            () => client(hurried.key).chat.completions.create({ model, messages }),
            OpenAI.RateLimitError,
            { status: 429, code: "rate_limit_exceeded" },
          ],
        ];
        for (const [failure, Class, facts] of failures) {
          const thrown = await failure().catch((error: unknown) => error);
          expect(thrown).toBeInstanceOf(Class);
          expect(thrown).toMatchObject(facts);
        }
      });

      test("throws in the middle of a stream that its provider breaks off", async () => {
        const stream = await client().chat.completions.create({
          model: "breaking-model",
          messages,
          stream: true,
        });
        let text = "";
        const read = async () => {
          for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
        };
        const thrown = await read().catch((error: unknown) => error);
        expect(thrown).toBeInstanceOf(OpenAI.APIError);
        expect(thrown).toMatchObject({ code: "upstream_error", type: "server_error" });
        expect(longAnswer.startsWith(text) && text !== "").toBe(true);
      });

      test("may leave a stream in the middle", async () => {
        const stream = await client().chat.completions.create({
          model: "support-tiny",
          messages,
          stream: true,
          max_tokens: 200,
        });
        for await (const _chunk of stream) break;
        expect(
          (await client().chat.completions.create({ model, messages })).choices[0]?.message.content,
        ).toMatch(triage);
      });
    });

    describe("openai from PyPI", () => {
      test.skipIf(python === undefined)(
        "answers, streams, lists and fails as the client expects (skipped without Python's openai)",
        async () => {
          const script = fileURLToPath(new URL("./clients/openai_client.py", import.meta.url));
          const { stdout } = await promisify(execFile)(
            python ?? "",
            [script, `${server.url}/v1`, server.apiKey, model, hurried.key],
            { timeout: 120_000 },
          );
          const seen = JSON.parse(stdout);
          expect(seen.models).toContain(model);
          expect(seen.retrieved).toBe(model);
          expect(seen.whole).toMatchObject({
            text: expect.stringMatching(triage),
            finish: "stop",
            request_id: expect.stringMatching(/^req_/),
          });
          expect(seen.streamed).toEqual({
            text: seen.whole.text,
            finish: "stop",
            role: "assistant",
            tokens: seen.whole.tokens,
          });
          expect(seen.concurrent).toEqual(Array(4).fill(seen.whole.text));
          expect(seen.unknown_model).toMatchObject({
            class: "NotFoundError",
            status: 404,
            code: "model_not_found",
          });
          expect(seen.limited).toMatchObject({
            class: "RateLimitError",
            status: 429,
            code: "rate_limit_exceeded",
          });
          expect(seen.too_long).toMatchObject({
            class: "BadRequestError",
            status: 400,
            code: "context_length_exceeded",
          });
          expect(seen.broken_stream).toEqual({ class: "APIError", code: "upstream_error" });
          expect(seen.bad_key).toMatchObject({
            class: "AuthenticationError",
            status: 401,
            code: "invalid_api_key",
          });
          expect(seen.bad_temperature).toMatchObject({
            class: "BadRequestError",
            status: 400,
            param: "temperature",
          });
        },
      );
    });
  });
}
