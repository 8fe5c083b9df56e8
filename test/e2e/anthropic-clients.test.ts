/** Anthropic's clients, unchanged, against the running product: the JavaScript and Python SDKs, and Claude Code. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type EmulatedRequest,
  type OpenAiEmulator,
  startOpenAiEmulator,
} from "../emulators/openai.ts";
import { findClaudeCode, findPython } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { demoBase, demoModelPath, type SettingsFile, writeSettings } from "../support/settings.ts";

const model = "support-tiny:support-triage";
const messages = [
  {
    role: "user" as const,
    content: "Triage this message: I was charged twice, please help today.",
  },
];
const ask = { model, max_tokens: 60, messages };
const triage = /^\{"category":"\w+","priority":"\w+","sentiment":"\w+"\}$/;
const python = await findPython("anthropic");
const claude = findClaudeCode();

let emulator: OpenAiEmulator;
let settings: SettingsFile;
let server: RunningServer;
let client: Anthropic;

/** Reads a file once, and tells what it read. The file's name stands in the question, if anywhere. */
function agent({ messages: asked, tools }: EmulatedRequest) {
  const result = asked.findLast(({ role }) => role === "tool");
  if (result) return { content: `It says: ${result.content}` };
  const canRead = JSON.stringify(tools ?? []).includes('"name":"Read"');
  if (!canRead) return { content: "once upon a time there was a gateway that broke" };
  const path = /\/\S+\.txt/.exec(JSON.stringify(asked))?.[0] ?? "/a.txt";
  const input = JSON.stringify({ file_path: path });
  return { content: "I read it.", toolCalls: [{ id: "call_1", name: "Read", arguments: input }] };
}

beforeAll(async () => {
  emulator = await startOpenAiEmulator({ answer: agent });
  settings = await writeSettings({
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    models: [
      { id: "breaking-model", upstream: "emulated", upstreamModel: "any!cut:3" },
      { id: "agent-model", upstream: "emulated", upstreamModel: "any" },
    ],
    embedded: {
      ...demoBase,
      adapters: [{ name: "support-triage", folder: demoModelPath("adapters/support-triage") }],
    },
  });
  server = await startServer({ env: { SWITCHYARD_CONFIG: settings.path } });
  client = new Anthropic({ apiKey: server.apiKey, baseURL: server.url, maxRetries: 0 });
});
afterAll(async () => {
  await server?.stop();
  await settings?.remove();
  await emulator?.close();
});

test("the JavaScript SDK asks an adapter of the embedded engine, whole, streamed and counted", async () => {
  const whole = await client.messages.create(ask);
  expect(whole).toMatchObject({
    content: [{ type: "text", text: expect.stringMatching(triage) }],
    stop_reason: "end_turn",
  });
  const streamed = await client.messages.stream(ask).finalMessage();
  expect(streamed.content).toEqual(whole.content);
  const { cache_read_input_tokens: cached, input_tokens } = streamed.usage;
  expect(input_tokens + (cached ?? 0)).toBe(whole.usage.input_tokens);
  const { data, response } = await client.messages.countTokens({ model, messages }).withResponse();
  expect(data.input_tokens).toBe(whole.usage.input_tokens);
  expect(response.headers.get("x-switchyard-counted-by")).toBe("provider");
  expect((await client.models.retrieve(model)).max_input_tokens).toBe(2048);
});

test("parameters that the engine does not have are told", async () => {
  const { response } = await client.messages
    .create({ ...ask, thinking: { type: "adaptive" }, metadata: { user_id: "u" } })
    .withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe("reasoning");
});

test.skipIf(python === undefined)(
  "the Python SDK answers, streams, counts, calls tools and fails (skipped without it)",
  async () => {
    const script = fileURLToPath(new URL("./clients/anthropic_client.py", import.meta.url));
    const { stdout } = await promisify(execFile)(
      python ?? "",
      [script, server.url, server.apiKey, model],
      { timeout: 120_000 },
    );
    const seen = JSON.parse(stdout);
    expect(seen.models).toEqual(expect.arrayContaining([model, "agent-model"]));
    expect(seen.retrieved).toBe(model);
    expect(seen.whole).toMatchObject({
      text: expect.stringMatching(triage),
      stop: "end_turn",
      request_id: expect.stringMatching(/^req_/),
    });
    const { text, stop, output } = seen.whole;
    expect(seen.streamed).toMatchObject({ text, stop, output });
    expect(seen.concurrent).toEqual(Array(4).fill(text));
    expect(seen.agent).toEqual({
      calls: [{ name: "Read", input: { file_path: "/a.txt" } }],
      text: "It says: a parrot",
      stop: "end_turn",
    });
    expect(seen.unknown_model).toEqual({
      class: "NotFoundError",
      status: 404,
      type: "not_found_error",
    });
    expect(seen.bad_key).toMatchObject({ class: "AuthenticationError", status: 401 });
    expect(seen.broken_stream).not.toBeNull();
  },
);

test.skipIf(claude === undefined)(
  "Claude Code reads a file with its own tools through a model that is none of Anthropic's (skipped without it)",
  async () => {
    const home = await mkdtemp(join(tmpdir(), "switchyard-claude-"));
    try {
      const file = join(home, "note.txt");
      await writeFile(file, "the word is parrot\n");
      const running = promisify(execFile)(
        claude ?? "",
        ["-p", `Read ${file} .`, "--model", "agent-model", "--allowedTools", "Read"],
        {
          cwd: home,
          timeout: 100_000,
          env: {
            PATH: process.env.PATH,
            HOME: home,
            ANTHROPIC_BASE_URL: server.url,
            ANTHROPIC_AUTH_TOKEN: server.apiKey,
            ANTHROPIC_DEFAULT_HAIKU_MODEL: "agent-model",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
          },
        },
      );
      running.child.stdin?.end();
      expect((await running).stdout).toMatch(/It says: .*the word is parrot/);
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  },
);
