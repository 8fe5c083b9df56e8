/** Contents of every client's dialect before every provider's format: what the provider said, whoever asked and however. */
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentLogSetting } from "../../sdk/protocol/content-log.ts";
import { guardrails } from "../../sdk/protocol/guardrails.ts";
import { startAnthropicEmulator } from "../../test/emulators/anthropic.ts";
import { startBedrockEmulator } from "../../test/emulators/bedrock.ts";
import { startCohereEmulator } from "../../test/emulators/cohere.ts";
import { startGeminiEmulator } from "../../test/emulators/gemini.ts";
import { startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../test/support/policy.ts";
import { migrateLedger } from "../ledger/database.ts";
import type { UpstreamSettings } from "../providers/settings.ts";
import { MasterKeys } from "./master-keys.ts";

const said = "Één antwoord voor [NAME] met 🌍, bel +49 30 12345678 of ada@example.com.";
const kept = "Één antwoord voor [NAME] met 🌍, bel [PHONE] of [EMAIL].";
const asked = "Zeg iets tegen bob@example.com.";
const user = { role: "user", content: asked };
const apiKey = "sk-sy-key-of-acme";
const guardedKey = "sk-sy-key-of-guarded";
const adminKey = "sk-sy-admin-key";

const upstreams: Record<string, Partial<UpstreamSettings>> = {
  chat: { type: "openai", api: "chat" },
  responses: { type: "openai", api: "responses" },
  anthropic: { type: "anthropic" },
  gemini: { type: "gemini" },
  bedrock: { type: "bedrock", region: "us-east-1" },
  cohere: { type: "cohere" },
};
const clients: Record<string, (model: string, stream: boolean) => { path: string; body: object }> =
  {
    chat: (model, stream) => ({
      path: "/v1/chat/completions",
      body: { model, stream, messages: [user] },
    }),
    responses: (model, stream) => ({
      path: "/v1/responses",
      body: { model, stream, store: false, input: asked },
    }),
    anthropic: (model, stream) => ({
      path: "/v1/messages",
      body: { model, stream, max_tokens: 500, messages: [user] },
    }),
    gemini: (model, stream) => ({
      path: `/v1beta/models/${model}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      body: { contents: [{ role: "user", parts: [{ text: asked }] }] },
    }),
    bedrock: (model, stream) => ({
      path: `/model/${model}/${stream ? "converse-stream" : "converse"}`,
      body: { messages: [{ role: "user", content: [{ text: asked }] }] },
    }),
  };

let served: TestGateway;
let database: TestDatabase;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const answer = () => said;
  const emulators = await Promise.all([
    startOpenAiEmulator({ answer }),
    startAnthropicEmulator({ answer }),
    startGeminiEmulator({ answer }),
    startBedrockEmulator({ answer }),
    startCohereEmulator({ answer }),
    startTexts(),
  ]);
  cleanUp.push(...emulators.map((it) => () => it.close()));
  const [openAi, anthropic, gemini, bedrock, cohere, texts] = emulators.map((it) => it.baseUrl);
  const urls: Record<string, string | undefined> = {
    ...{ chat: openAi, responses: openAi, anthropic, gemini, bedrock, cohere, texts },
  };
  database = await openTestDatabase();
  await migrateLedger(database.sql);
  const contentLog = contentLogSetting.parse({});
  const acme = testProject("acme", { contentLog });
  const guarded = testProject("guarded", {
    contentLog: contentLogSetting.parse({ redact: [] }),
    guardrails: guardrails.parse([{ type: "pii", name: "pii", kinds: ["email"] }]),
  });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme, guarded],
      keys: [
        testKey(apiKey, { projectId: acme.id }),
        testKey(guardedKey, { projectId: guarded.id }),
        testKey(adminKey, { role: "admin" }),
      ],
      models: Object.keys(urls).map((upstream) => testModel(upstream, { upstream })),
    }),
    upstreams: Object.entries({ ...upstreams, texts: { type: "openai" as const } }).map(
      ([name, more]) => ({ name, apiKey: "key", baseUrl: urls[name], ...more }) as UpstreamSettings,
    ),
    contents: {
      sql: database.sql,
      masterKeys: new MasterKeys(randomBytes(32).toString("base64")),
    },
  });
});
afterAll(async () => {
  await served.close();
  await database.close();
  for (const close of cleanUp) await close();
});

for (const upstream of Object.keys(upstreams)) {
  test(`what ${upstream} says is kept alike, whatever its client speaks, streamed or not`, async () => {
    for (const [name, write] of Object.entries(clients)) {
      for (const stream of [false, true]) {
        const { path, body } = write(upstream, stream);
        const content = await contentOf(await ask(apiKey, path, body));
        const where = `${name} ${stream}`;
        expect(textOf(content), where).toBe(kept);
        expect(content, where).toMatchObject({ complete: true, truncated: false, stream });
        expect(JSON.stringify(content.prompt), where).toContain("Zeg iets tegen [EMAIL].");
        expect(content.redacted, where).toEqual({ EMAIL: 2, PHONE: 1 });
      }
    }
  });
}

test("old completions are read too", async () => {
  for (const stream of [false, true]) {
    const body = { model: "texts", stream, prompt: asked };
    const content = await contentOf(await ask(apiKey, "/v1/completions", body));
    const text = stream ? textOf(content) : content.answer.body.choices[0].text;
    expect(text).toBe(kept);
    expect(JSON.stringify(content)).not.toContain("example.com");
  }
});

test("guardrails that take something out and put it back leave the placeholder in what is kept", async () => {
  for (const upstream of ["chat", "anthropic"]) {
    for (const stream of [false, true]) {
      const { path, body } = clients.chat?.(upstream, stream) ?? { path: "", body: {} };
      const answered = await ask(guardedKey, path, body);
      const content = await contentOf(answered);
      expect(content.prompt.messages[0].content).toBe("Zeg iets tegen [EMAIL_1].");
      // What the provider said is kept, before the guardrail looked at it; the project keeps such kinds.
      expect(textOf(content)).toBe(said);
      expect(content.redacted).toEqual({});
    }
  }
});

async function ask(key: string, path: string, body: object): Promise<Response> {
  const response = await fetch(served.url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  expect(response.status, path).toBe(200);
  await response.arrayBuffer();
  return response;
}

// biome-ignore lint/suspicious/noExplicitAny: a content of any shape, which the tests look into.
async function contentOf(response: Response): Promise<any> {
  const id = response.headers.get("x-request-id");
  const content = await fetch(`${served.url}/api/requests/${id}/content`, {
    headers: { authorization: `Bearer ${adminKey}` },
  });
  expect(content.status).toBe(200);
  return content.json();
}

// biome-ignore lint/suspicious/noExplicitAny: as above.
function textOf({ answer }: any): string {
  return answer.choices[0].parts.map(({ text }: { text: string }) => text).join("");
}

async function startTexts(): Promise<{ baseUrl: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    request.on("data", (body: Buffer) => {
      const choice = (text: string, finish_reason: string | null) =>
        JSON.stringify({
          choices: [
            { index: 0, text, finish_reason, logprobs: { tokens: ["ada@example", ".com"] } },
          ],
        });
      const isStream = body.includes('"stream":true');
      const type = isStream ? "text/event-stream" : "application/json";
      response.writeHead(200, { "content-type": type });
      const middle = said.indexOf("@");
      const events = [
        choice(said.slice(0, middle), null),
        choice(said.slice(middle), "stop"),
        "[DONE]",
      ];
      response.end(
        isStream ? events.map((event) => `data: ${event}\n\n`).join("") : choice(said, "stop"),
      );
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    close: () => new Promise((done) => server.close(() => done())),
  };
}
