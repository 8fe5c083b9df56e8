/** The official clients, unchanged, against the adapter-server's text completions. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import OpenAI7 from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  baseId as model,
  openTestServer,
  operatorKey,
  type TestServer,
} from "../support/adapter-server.ts";
import { findPython } from "../support/optional-parts.ts";

const python = await findPython("openai");
const prompts = ["My card was", "The app"];

let server: TestServer;
beforeAll(async () => {
  server = await openTestServer();
});
afterAll(() => server?.close());

describe.each([
  { version: "7", OpenAI: OpenAI7 },
  { version: "6", OpenAI: OpenAI6 as unknown as typeof OpenAI7 },
])("openai $version from npm", ({ OpenAI }) => {
  const client = () =>
    new OpenAI({ baseURL: `${server.url}/v1`, apiKey: operatorKey, maxRetries: 0 });

  test("gets a prompt scored, and nothing said", async () => {
    const answer = await client().completions.create({
      ...{ model, prompt: prompts[0] ?? "", max_tokens: 0, echo: true, logprobs: 2 },
    });
    const { tokens, token_logprobs, top_logprobs, text_offset } = answer.choices[0]?.logprobs ?? {};
    expect(tokens?.join("")).toBe(prompts[0]);
    expect(token_logprobs?.map((value) => value === null)).toEqual([true, false, false]);
    expect(top_logprobs?.[0]).toBeNull();
    expect(text_offset).toEqual([0, 2, 7]);
    expect(answer.usage?.completion_tokens).toBe(0);
  });

  test("streams the texts that it gets whole", async () => {
    const wish = { model, prompt: prompts, max_tokens: 8, temperature: 0 };
    const whole = await client().completions.create(wish);
    const texts = ["", ""];
    for await (const chunk of await client().completions.create({ ...wish, stream: true })) {
      for (const { index, text } of chunk.choices) texts[index] += text;
    }
    expect(texts).toEqual(whole.choices.map(({ text }) => text));
  });
});

test.skipIf(python === undefined)(
  "openai from PyPI gets, streams and scores as the others (skipped without Python's openai)",
  async () => {
    const script = fileURLToPath(new URL("./clients/completions_client.py", import.meta.url));
    const args = [script, `${server.url}/v1`, operatorKey, model];
    const { stdout } = await promisify(execFile)(python ?? "", args, { timeout: 120_000 });
    const seen = JSON.parse(stdout);
    expect(seen.streamed).toEqual(seen.whole);
    expect(seen.scored).toMatchObject({ text: prompts[0], text_offset: [0, 2, 7] });
    expect(seen.scored.token_logprobs[0]).toBeNull();
    expect(seen.extra).toHaveLength(3);
  },
);
