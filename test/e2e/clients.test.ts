/** The official clients, unchanged, against the running product: openai 7 and 6 from npm, and the Python one. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import OpenAI7 from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findPython } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";

const model = "support-tiny:support-triage";
const messages = [
  {
    role: "user" as const,
    content: "Triage this message: I was charged twice, please help today.",
  },
];
const triage = /^\{"category":"\w+","priority":"\w+","sentiment":"\w+"\}$/;
const python = await findPython();

let server: RunningServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server?.stop());

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
    const final = await client().chat.completions.stream({ model, messages }).finalChatCompletion();
    expect(final.choices[0]?.message.content).toMatch(triage);
  });

  test("lists models and finds one by a name with a colon", async () => {
    const ids = (await client().models.list()).data.map(({ id }) => id);
    expect(ids).toEqual(expect.arrayContaining(["support-tiny", model, "auto"]));
    expect((await client().models.retrieve(model)).id).toBe(model);
  });

  test("throws its own classes for a wrong key, an unknown model, a wrong value and too long a prompt", async () => {
    await expect(client("sk-wrong-key-of-nobody").models.list()).rejects.toMatchObject({
      status: 401,
      code: "invalid_api_key",
    });
    await expect(
      client().chat.completions.create({ model: "support-tinny", messages }),
    ).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      message: expect.stringContaining("support-tiny"),
    });
    await expect(
      client().chat.completions.create({ model, messages, temperature: 9 }),
    ).rejects.toMatchObject({ status: 400, param: "temperature" });
    await expect(
      client().chat.completions.create({
        model,
        messages: [{ role: "user", content: "word ".repeat(4000) }],
      }),
    ).rejects.toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      message: expect.stringContaining("2048"),
    });
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
        [script, `${server.url}/v1`, server.apiKey, model],
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
