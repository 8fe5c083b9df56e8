/**
 * Guards on every way through the gateway: six dialects, read by the clients that their makers publish, in front of
 * five kinds of providers, of which one is the client's own, whole and streamed by single letters.
 */
import Anthropic from "@anthropic-ai/sdk";
import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { guardrails as schema } from "../../sdk/protocol/guardrails.ts";
import { startAnthropicEmulator } from "../../test/emulators/anthropic.ts";
import { startBedrockEmulator } from "../../test/emulators/bedrock.ts";
import { startGeminiEmulator } from "../../test/emulators/gemini.ts";
import { startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { letters } from "../../test/emulators/pieces.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import { http1 } from "../../test/support/http1.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../test/support/policy.ts";

/** What a model says, in whatever format. */
type Words = { thoughts?: string; text?: string; args?: object };
/** What a client reads. */
type Read = { thoughts: string; text: string; args: string; error?: string };

const projects = {
  pii: [{ name: "pii", type: "pii", on: ["request"] }],
  words: [{ name: "words", type: "deny", words: ["forbidden thing"], on: ["answer"] }],
  masked: [
    { name: "masked", type: "deny", words: ["forbidden thing"], on: ["answer"], action: "redact" },
  ],
  german: [
    { name: "german", type: "language", allowed: ["de"], unknown: "pass", on: ["answer"] },
    { name: "late", type: "deny", words: ["verboten"], on: ["answer"], action: "redact" },
  ],
} as const;
type Name = keyof typeof projects;
const keyOf = (name: Name) => `sk-sy-key-of-the-project-${name}`;
const upstreamNames = ["chat", "responses", "anthropic", "gemini", "bedrock"] as const;

/** Said next; it may depend on the request as it came. */
let say: (request: string) => Words = () => ({});
let asked: string[] = [];
let served: TestGateway;
const cleanUp: (() => Promise<unknown>)[] = [];

function answer(body: unknown): Required<Words> {
  const request = JSON.stringify(body);
  asked.push(request);
  return { thoughts: "", text: "", args: {}, ...say(request) };
}
const hasArgs = (args: object) => Object.keys(args).length > 0;

beforeAll(async () => {
  const openAi = await startOpenAiEmulator({
    pieces: letters,
    answer(body) {
      const { thoughts, text, args } = answer(body);
      return {
        content: text,
        ...(thoughts && { reasoning: thoughts }),
        ...(hasArgs(args) && {
          toolCalls: [{ id: "call_9", name: "send", arguments: escaped(args) }],
        }),
      };
    },
  });
  const anthropic = await startAnthropicEmulator({
    pieces: letters,
    answer(body) {
      const { thoughts, text, args } = answer(body);
      return {
        content: [
          ...(thoughts ? [{ type: "thinking", thinking: thoughts, signature: "c2ln" }] : []),
          ...(text ? [{ type: "text", text }] : []),
          ...(hasArgs(args)
            ? [{ type: "tool_use", id: "toolu_9", name: "send", input: args }]
            : []),
        ],
      };
    },
  });
  const google = await startGeminiEmulator({
    pieces: letters,
    answer({ body }) {
      const { thoughts, text, args } = answer(body);
      return {
        parts: [
          ...(thoughts ? [{ text: thoughts, thought: true }] : []),
          ...(text ? [{ text }] : []),
          ...(hasArgs(args) ? [{ functionCall: { name: "send", args } }] : []),
        ],
      };
    },
  });
  const aws = await startBedrockEmulator({
    pieces: letters,
    answer({ body }) {
      const { thoughts, text, args } = answer(body);
      return {
        content: [
          ...(thoughts
            ? [{ reasoningContent: { reasoningText: { text: thoughts, signature: "c2ln" } } }]
            : []),
          ...(text ? [{ text }] : []),
          ...(hasArgs(args)
            ? [{ toolUse: { toolUseId: "tool_9", name: "send", input: args } }]
            : []),
        ],
      };
    },
  });
  cleanUp.push(...[openAi, anthropic, google, aws].map((one) => one.close));
  const all = Object.entries(projects).map(([name, guards]) =>
    testProject(name, { guardrails: schema.parse(guards) }),
  );
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: all,
      keys: all.map(({ id, name }) => testKey(keyOf(name as Name), { projectId: id })),
      models: upstreamNames.map((name) =>
        testModel(name, {
          upstream: name,
          upstreamModel: name === "gemini" ? "gemini-3-pro" : `model-of-${name}`,
        }),
      ),
    }),
    upstreams: [
      { name: "chat", type: "openai", baseUrl: openAi.baseUrl, apiKey: "k", api: "chat" },
      { name: "responses", type: "openai", baseUrl: openAi.baseUrl, apiKey: "k", api: "responses" },
      { name: "anthropic", type: "anthropic", baseUrl: anthropic.baseUrl, apiKey: "k" },
      { name: "gemini", type: "gemini", baseUrl: google.baseUrl, apiKey: "k" },
      { name: "bedrock", type: "bedrock", region: "eu-west-1", baseUrl: aws.baseUrl, apiKey: "k" },
    ],
    limits: { breakerFailures: 1000 },
  });
  cleanUp.push(() => served.close());
});
afterAll(async () => {
  for (const close of cleanUp.reverse()) await close();
});
beforeEach(() => {
  asked = [];
});

/** JSON that writes letters as escapes, as it may. */
function escaped(args: object): string {
  return JSON.stringify(args).replace(
    /[@gt]/g,
    (char) => `\\u00${char.charCodeAt(0).toString(16)}`,
  );
}

type Ask = { name: Name; model: string; stream: boolean; withTools: boolean };
const systemText = "You write for carl@example.com.";
const userText = "Tell ada@example.com of card 4111 1111 1111 1111.";
const found = '{"owner":"bob\\u0040example.com"}';
const description = "Sends a message, such as to dora@example.com.";
const parameters = {
  type: "object" as const,
  properties: { to: { type: "string", description: "As in emil@example.com" } },
};

const clients: Record<string, (ask: Ask) => Promise<Read>> = {
  async chat({ name, model, stream, withTools }) {
    const client = new OpenAI({ apiKey: keyOf(name), baseURL: `${served.url}/v1`, maxRetries: 0 });
    const read = nothing();
    const tool = { type: "function" as const, function: { name: "send", description, parameters } };
    const call = {
      id: "call_1",
      type: "function" as const,
      function: { name: "send", arguments: found },
    };
    const body = {
      model,
      messages: [
        { role: "system" as const, content: systemText },
        { role: "user" as const, content: "Who owns it?" },
        { role: "assistant" as const, content: null, tool_calls: [call] },
        { role: "tool" as const, tool_call_id: "call_1", content: found },
        { role: "user" as const, content: userText },
      ],
      ...(withTools && { tools: [tool] }),
    };
    type Delta = {
      content?: string | null;
      reasoning_content?: string;
      tool_calls?: { function?: { arguments?: string } }[];
    };
    const take = (delta: Delta) => {
      read.text += delta.content ?? "";
      read.thoughts += delta.reasoning_content ?? "";
      for (const one of delta.tool_calls ?? []) read.args += one.function?.arguments ?? "";
    };
    return reading(read, async () => {
      if (!stream) {
        const whole = await client.chat.completions.create(body);
        return take(whole.choices[0]?.message as Delta);
      }
      for await (const { choices } of await client.chat.completions.create({
        ...body,
        stream: true,
      })) {
        for (const { delta } of choices) take(delta as Delta);
      }
    });
  },

  async responses({ name, model, stream, withTools }) {
    const client = new OpenAI({ apiKey: keyOf(name), baseURL: `${served.url}/v1`, maxRetries: 0 });
    const read = nothing();
    const body = {
      model,
      store: false,
      instructions: systemText,
      input: [
        { role: "user" as const, content: "Who owns it?" },
        { type: "function_call" as const, call_id: "call_1", name: "send", arguments: found },
        { type: "function_call_output" as const, call_id: "call_1", output: found },
        { role: "user" as const, content: userText },
      ],
      ...(withTools && {
        tools: [
          { type: "function" as const, name: "send", description, parameters, strict: false },
        ],
      }),
    };
    const takeItem = (item: OpenAI.Responses.ResponseOutputItem) => {
      if (item.type === "function_call") read.args += item.arguments;
      if (item.type === "reasoning") read.thoughts += item.summary.map(({ text }) => text).join("");
      if (item.type !== "message") return;
      for (const part of item.content) if (part.type === "output_text") read.text += part.text;
    };
    return reading(read, async () => {
      if (!stream) {
        for (const item of (await client.responses.create(body)).output) takeItem(item);
        return;
      }
      const deltas = nothing();
      let done = "";
      for await (const event of await client.responses.create({ ...body, stream: true })) {
        if (event.type === "response.output_text.delta") deltas.text += event.delta;
        if (event.type === "response.reasoning_summary_text.delta") deltas.thoughts += event.delta;
        if (event.type === "response.function_call_arguments.delta") deltas.args += event.delta;
        Object.assign(read, deltas);
        if (event.type === "error" || event.type === "response.failed") {
          throw new Error(JSON.stringify(event));
        }
        if (event.type !== "response.completed") continue;
        // What is told again at the end is the same.
        done = "done";
        Object.assign(read, nothing());
        for (const item of event.response.output) takeItem(item);
        expect(read).toEqual(deltas);
      }
      expect(done).toBe("done");
    });
  },

  async messages({ name, model, stream, withTools }) {
    const client = new Anthropic({ apiKey: keyOf(name), baseURL: served.url, maxRetries: 0 });
    const read = nothing();
    const body = {
      model,
      max_tokens: 99,
      system: systemText,
      messages: [
        { role: "user" as const, content: "Who owns it?" },
        {
          role: "assistant" as const,
          content: [
            { type: "tool_use" as const, id: "toolu_1", name: "send", input: JSON.parse(found) },
          ],
        },
        {
          role: "user" as const,
          content: [
            { type: "tool_result" as const, tool_use_id: "toolu_1", content: found },
            { type: "text" as const, text: userText },
          ],
        },
      ],
      tools: [{ name: "send", ...(withTools && { description }), input_schema: parameters }],
    };
    return reading(read, async () => {
      if (!stream) {
        for (const block of (await client.messages.create(body)).content) {
          if (block.type === "text") read.text += block.text;
          if (block.type === "thinking") read.thoughts += block.thinking;
          if (block.type === "tool_use") read.args += JSON.stringify(block.input);
        }
        return;
      }
      let stopped = false;
      for await (const event of await client.messages.create({ ...body, stream: true })) {
        if (event.type === "message_stop") stopped = true;
        if (event.type !== "content_block_delta") continue;
        const { delta } = event;
        if (delta.type === "text_delta") read.text += delta.text;
        if (delta.type === "thinking_delta") read.thoughts += delta.thinking;
        if (delta.type === "input_json_delta") read.args += delta.partial_json;
      }
      expect(stopped).toBe(true);
    });
  },

  async gemini({ name, model, stream, withTools }) {
    const client = new GoogleGenAI({
      apiKey: keyOf(name),
      httpOptions: { baseUrl: served.url, retryOptions: { attempts: 1 } },
    });
    const read = nothing();
    const body = {
      model,
      contents: [
        { role: "user", parts: [{ text: "Who owns it?" }] },
        { role: "model", parts: [{ functionCall: { name: "send", args: JSON.parse(found) } }] },
        {
          role: "user",
          parts: [{ functionResponse: { name: "send", response: { output: found } } }],
        },
        { role: "user", parts: [{ text: userText }] },
      ],
      config: {
        systemInstruction: systemText,
        ...(withTools && {
          tools: [
            {
              functionDeclarations: [
                { name: "send", description, parametersJsonSchema: parameters },
              ],
            },
          ],
        }),
      },
    };
    type Chunk = {
      candidates?: {
        content?: {
          parts?: { text?: string; thought?: boolean; functionCall?: { args?: object } }[];
        };
      }[];
    };
    const take = ({ candidates = [] }: Chunk) => {
      for (const part of candidates[0]?.content?.parts ?? []) {
        if (part.functionCall) read.args += JSON.stringify(part.functionCall.args);
        else if (part.thought) read.thoughts += part.text ?? "";
        else read.text += part.text ?? "";
      }
    };
    return reading(read, async () => {
      if (!stream) return take((await client.models.generateContent(body)) as Chunk);
      for await (const chunk of await client.models.generateContentStream(body)) {
        take(chunk as Chunk);
      }
    });
  },

  async bedrock({ name, model, stream, withTools }) {
    const client = new BedrockRuntimeClient({
      region: "eu-west-1",
      endpoint: served.url,
      token: { token: keyOf(name) },
      authSchemePreference: ["httpBearerAuth"],
      maxAttempts: 1,
      requestHandler: http1,
    });
    const read = nothing();
    const body = {
      modelId: model,
      system: [{ text: systemText }],
      messages: [
        { role: "user" as const, content: [{ text: "Who owns it?" }] },
        {
          role: "assistant" as const,
          content: [{ toolUse: { toolUseId: "tool_1", name: "send", input: JSON.parse(found) } }],
        },
        {
          role: "user" as const,
          content: [
            { toolResult: { toolUseId: "tool_1", content: [{ text: found }] } },
            { text: userText },
          ],
        },
      ],
      toolConfig: {
        tools: [
          {
            toolSpec: {
              name: "send",
              ...(withTools && { description }),
              inputSchema: { json: parameters },
            },
          },
        ],
      },
    };
    return reading(read, async () => {
      if (!stream) {
        const { output } = await client.send(new ConverseCommand(body));
        for (const block of output?.message?.content ?? []) {
          read.text += block.text ?? "";
          read.thoughts += block.reasoningContent?.reasoningText?.text ?? "";
          if (block.toolUse) read.args += JSON.stringify(block.toolUse.input);
        }
        return;
      }
      const { stream: events = [] } = await client.send(new ConverseStreamCommand(body));
      let stopped = false;
      for await (const event of events as AsyncIterable<Record<string, unknown>>) {
        if (event.messageStop) stopped = true;
        type Delta = {
          text?: string;
          reasoningContent?: { text?: string };
          toolUse?: { input?: string };
        };
        const { delta } = (event.contentBlockDelta ?? {}) as { delta?: Delta };
        read.text += delta?.text ?? "";
        read.thoughts += delta?.reasoningContent?.text ?? "";
        read.args += delta?.toolUse?.input ?? "";
      }
      expect(stopped).toBe(true);
    });
  },

  async completions({ name, model, stream }) {
    const client = new OpenAI({ apiKey: keyOf(name), baseURL: `${served.url}/v1`, maxRetries: 0 });
    const read = nothing();
    const body = { model, prompt: `${systemText} ${found} ${userText}`, max_tokens: 99 };
    return reading(read, async () => {
      if (!stream) {
        read.text += (await client.completions.create(body)).choices[0]?.text;
        return;
      }
      for await (const { choices } of await client.completions.create({ ...body, stream: true })) {
        for (const { text } of choices) read.text += text;
      }
    });
  },
};

function nothing(): Read {
  return { thoughts: "", text: "", args: "" };
}

/** What was read until an error came, and the error as the client has it. */
async function reading(read: Read, ask: () => Promise<unknown>): Promise<Read> {
  try {
    await ask();
    return read;
  } catch (error) {
    const { name, message, body } = error as Error & { body?: unknown };
    return { ...read, error: `${name} ${message} ${JSON.stringify(body ?? "")}` };
  }
}

const dialects = Object.keys(clients);
const ways = dialects.flatMap((dialect) =>
  upstreamNames.flatMap((model) => [false, true].map((stream) => ({ dialect, model, stream }))),
);
const lastSettled = () => served.accounts.settled.at(-1);
type Reported = { on: string; hits: number; kinds?: Record<string, number>; name: string };
const lastReports = () =>
  (lastSettled()?.decision as { guardrails?: Reported[] } | undefined)?.guardrails ?? [];

describe.each(ways)("$dialect to $model, streamed: $stream", ({ dialect, model, stream }) => {
  const ask = (name: Name, withTools = false) =>
    (clients[dialect] as (typeof clients)[string])({ name, model, stream, withTools });
  const says = dialect !== "completions";

  test("what was taken out of the request is nowhere in it, and comes back everywhere", async () => {
    say = (request) => {
      const made = [...new Set(request.match(/\[[A-Z]+_\d\]/g))].sort().join(", ");
      return {
        text: `I write: ${made}.`,
        ...(says && { thoughts: `Of ${made}.`, args: { to: made, [made]: [`"${made}"`] } }),
      };
    };
    const read = await ask("pii", says);
    expect(read.error).toBeUndefined();
    expect(asked).toHaveLength(1);
    expect(asked[0]).not.toMatch(/(?:ada|bob|carl|dora|emil)(?:@|\\+u0040)|4111/);
    const people = ["ada", "bob", "carl", ...(says ? ["emil"] : [])];
    const originals = [...people.map((one) => `${one}@example.com`), "4111 1111 1111 1111"];
    for (const original of originals) {
      expect(read.text).toContain(original);
      if (!says) continue;
      expect(read.thoughts).toContain(original);
      expect(Object.keys(JSON.parse(read.args))[1]).toContain(original);
      expect(JSON.parse(read.args).to).toContain(original);
    }
    expect(JSON.stringify(read)).not.toMatch(/\[(?:EMAIL|CARD)_/);
    expect(lastSettled()).toMatchObject({ outcome: "ok" });
    expect(lastReports()).toMatchObject([{ name: "pii", on: "request", action: "redact" }]);
  });

  const saidWhere: [string, Words][] = [
    ["a text", { text: "Here is a Forbidden Thing, at last" }],
    ...(says
      ? ([
          ["a thought", { thoughts: "Here is a forbidden thing, at last", text: "Fine." }],
          ["arguments", { text: "Fine.", args: { to: "a forbidden thing, at last" } }],
          ["an argument's name", { args: { "a forbidden thing": "at last" } }],
        ] satisfies [string, Words][])
      : []),
  ];
  test.each(saidWhere)("what is forbidden in %s is never said, not even half", async (_, words) => {
    say = () => words;
    const read = await ask("words", says);
    expect(read.error).toMatch(/guardrail 'words'/);
    const { error: _error, ...told } = read;
    expect(JSON.stringify(told)).not.toMatch(/forb|thing|last/i);
    expect(lastSettled()).toMatchObject({ outcome: "refused", errorCode: "guardrail_blocked" });
    expect(lastReports()).toMatchObject([{ name: "words", on: "answer", action: "block" }]);
    const masked = await ask("masked", says);
    expect(masked.error).toBeUndefined();
    expect(JSON.stringify(masked)).toMatch(/a \[WORD\]/);
    expect(JSON.stringify(masked)).toMatch(/at last/);
    expect(lastReports()).toMatchObject([{ name: "masked", on: "answer", action: "redact" }]);
  });

  test("what may pass only as a whole is told only when it is whole, with nothing lost", async () => {
    const thoughts = says ? { thoughts: "The user wants it in German, so I answer that way." } : {};
    say = () => ({ ...thoughts, text: "Das ist hier leider verboten, bitte fragen Sie woanders." });
    const german = await ask("german", says);
    expect(german).toMatchObject({
      ...thoughts,
      text: "Das ist hier leider [WORD], bitte fragen Sie woanders.",
    });
    expect(german.error).toBeUndefined();
    say = () => ({ text: "That is not allowed here, please ask somewhere else." });
    const english = await ask("german", says);
    expect(english.error).toMatch(/guardrail 'german'/);
    expect(english.text).toBe("");
    expect(lastReports()).toMatchObject([{ name: "german", on: "answer", hits: 1 }]);
    say = () => ({ text: "42" });
    expect((await ask("german", says)).text).toBe("42");
    expect(lastReports()).toMatchObject([{ name: "german", on: "answer", hits: 0, unknown: 1 }]);
  });
});
