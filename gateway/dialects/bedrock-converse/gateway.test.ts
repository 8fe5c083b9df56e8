/** AWS's own client in front of the gateway: frames that pass to Bedrock, and all that is translated for others. */
import {
  BedrockRuntimeClient,
  ConverseCommand,
  type ConverseCommandInput,
  ConverseStreamCommand,
  type ConverseStreamOutput,
} from "@aws-sdk/client-bedrock-runtime";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BedrockEmulator, startBedrockEmulator } from "../../../test/emulators/bedrock.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { http1 } from "../../../test/support/http1.ts";
import {
  testAdapter,
  testBase,
  testKey,
  testModel,
  testProject,
  testSnapshot,
} from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const said = "Hello, wörld 🦜 and all";

let aws: BedrockEmulator;
let openAi: OpenAiEmulator;
let served: TestGateway;
let client: BedrockRuntimeClient;

const connect = (token: string) =>
  new BedrockRuntimeClient({
    region: "eu-west-1",
    endpoint: served.url,
    token: { token },
    authSchemePreference: ["httpBearerAuth"],
    maxAttempts: 1,
    requestHandler: http1,
  });

beforeAll(async () => {
  aws = await startBedrockEmulator({
    answer: ({ body }) =>
      body.toolConfig
        ? { content: [{ toolUse: { toolUseId: "t1", name: "look", input: { x: "ö" } } }] }
        : said,
  });
  openAi = await startOpenAiEmulator({
    answer: (request) =>
      request.tools
        ? {
            content: "",
            reasoning: "Let me see.",
            toolCalls: [
              { id: "call_1", name: "look", arguments: '{"x":"ö"}' },
              { id: "call_2", name: "now", arguments: "" },
            ],
          }
        : { content: said },
  });
  const upstreamModels: Record<string, [upstream: string, upstreamModel: string]> = {
    "claude-pass": ["aws", "anthropic.claude-v1:0"],
    "claude-cut": ["aws", "m!cut-3"],
    "claude-error": ["aws", "m!error-3"],
    "claude-limited": ["aws", "m!status-429"],
    "org/gpt-test": ["openai", "gpt-test"],
    "gpt-cut": ["openai", "gpt-test!cut:3"],
    "gpt-limited": ["openai", "gpt-test!status:429"],
  };
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        ...Object.entries(upstreamModels).map(([id, [upstream, upstreamModel]]) =>
          testModel(id, { upstream, upstreamModel }),
        ),
        testModel("tiny", { upstream: "openai", base: testBase }),
      ],
      adapters: [testAdapter("tiny", "triage", acme, ["one", "two"])],
    }),
    upstreams: [
      { name: "aws", type: "bedrock", region: "eu-west-1", baseUrl: aws.baseUrl, apiKey: "k" },
      { name: "openai", type: "openai", baseUrl: openAi.baseUrl },
    ],
    limits: { breakerFailures: 1000 },
  });
  client = connect(apiKey);
});
afterAll(async () => {
  await served.close();
  await aws.close();
  await openAi.close();
});

const messages: ConverseCommandInput["messages"] = [
  { role: "user", content: [{ text: "two words" }] },
];
const toolConfig = {
  tools: ["look", "now"].map((name) => ({ toolSpec: { name, inputSchema: { json: {} } } })),
};

/** What a client makes of a stream. */
async function gather(stream: AsyncIterable<ConverseStreamOutput> | undefined) {
  const gathered = { text: "", inputs: [] as string[], stopReason: "", usage: {} as object };
  const inputs = new Map<number, string>();
  for await (const { contentBlockStart, contentBlockDelta, messageStop, metadata } of stream ??
    []) {
    const index = contentBlockDelta?.contentBlockIndex ?? contentBlockStart?.contentBlockIndex ?? 0;
    if (contentBlockStart) inputs.set(index, "");
    gathered.text += contentBlockDelta?.delta?.text ?? "";
    const input = contentBlockDelta?.delta?.toolUse?.input;
    if (input !== undefined) inputs.set(index, (inputs.get(index) ?? "") + input);
    gathered.stopReason ||= messageStop?.stopReason ?? "";
    Object.assign(gathered.usage, metadata?.usage);
  }
  gathered.inputs = [...inputs.values()];
  return gathered;
}

describe.each(["claude-pass", "org/gpt-test"])("%s", (modelId) => {
  test("answers whole and in a stream, and what it used is settled", async () => {
    const answer = await client.send(new ConverseCommand({ modelId, messages }));
    expect(answer).toMatchObject({
      output: { message: { role: "assistant", content: [{ text: said }] } },
      stopReason: "end_turn",
      usage: { inputTokens: 2, outputTokens: 5, totalTokens: 7 },
    });
    const usage = { input: 2, output: 5 };
    expect(served.accounts.settled.at(-1)).toMatchObject({ usage, estimated: false });

    const { stream } = await client.send(new ConverseStreamCommand({ modelId, messages }));
    expect(await gather(stream)).toMatchObject({
      text: said,
      stopReason: "end_turn",
      usage: { inputTokens: 2, outputTokens: 5, totalTokens: 7 },
    });
    expect(served.accounts.settled.at(-1)).toMatchObject({
      usage,
      estimated: false,
      outcome: "ok",
      stream: true,
    });
  });

  test("calls tools, and gets their results", async () => {
    const ask = { modelId, messages, toolConfig };
    const answer = await client.send(new ConverseCommand(ask));
    const message = answer.output?.message ?? { role: "assistant", content: [] };
    const calls = (message.content ?? []).flatMap(({ toolUse }) => toolUse ?? []);
    expect(calls[0]).toMatchObject({ name: "look", input: { x: "ö" } });
    const streamed = await gather((await client.send(new ConverseStreamCommand(ask))).stream);
    expect(streamed.inputs).toEqual(calls.map(({ input }) => JSON.stringify(input)));
    expect(streamed.stopReason).toBe("tool_use");
    const results = calls.map(({ toolUseId }) => ({
      toolResult: { toolUseId, content: [{ json: { seen: "a cat" } }] },
    }));
    const final = await client.send(
      new ConverseCommand({
        ...ask,
        messages: [...(messages ?? []), message, { role: "user", content: results }],
      }),
    );
    expect(final.stopReason).toBe("tool_use");
  });

  test("tells errors as AWS does, in the middle of a stream too", async () => {
    const isAws = modelId.startsWith("claude");
    const limited = isAws ? "claude-limited" : "gpt-limited";
    await expect(
      client.send(new ConverseCommand({ modelId: limited, messages })),
    ).rejects.toMatchObject({ name: "ThrottlingException", $metadata: { httpStatusCode: 429 } });
    for (const broken of isAws ? ["claude-cut", "claude-error"] : ["gpt-cut"]) {
      const before = served.accounts.settled.length;
      const { stream } = await client.send(
        new ConverseStreamCommand({ modelId: broken, messages }),
      );
      await expect(gather(stream)).rejects.toMatchObject({
        name: broken === "claude-error" ? "ThrottlingException" : "ModelStreamErrorException",
      });
      await served.accounts.untilSettled(before + 1);
      expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
    }
  });
});

test("a request with everything is translated", async () => {
  const answer = await client.send(
    new ConverseCommand({
      modelId: "org/gpt-test",
      system: [{ text: "Be brief." }, { cachePoint: { type: "default" } }],
      messages: [
        {
          role: "user",
          content: [
            { text: "What is this?" },
            { image: { format: "png", source: { bytes: new Uint8Array([0, 0, 0]) } } },
            {
              document: {
                format: "pdf",
                name: "a",
                source: { bytes: new Uint8Array([0, 0, 0]) },
              },
            },
          ],
        },
        {
          role: "assistant",
          content: [{ toolUse: { toolUseId: "1", name: "look", input: { x: 1 } } }],
        },
        {
          role: "user",
          content: [
            { toolResult: { toolUseId: "1", content: [{ text: "no" }], status: "error" } },
            { text: "Go on." },
          ],
        },
      ],
      toolConfig: { ...toolConfig, toolChoice: { any: {} } },
      inferenceConfig: { maxTokens: 9, temperature: 0.5, topP: 0.9, stopSequences: ["END"] },
      outputConfig: {
        textFormat: {
          type: "json_schema",
          structure: { jsonSchema: { name: "s", schema: '{"type":"object"}' } },
        },
      },
      additionalModelRequestFields: { reasoning_effort: "low", odd: 1 },
      serviceTier: { type: "flex" },
      performanceConfig: { latency: "optimized" },
    }),
  );
  expect(answer.output?.message?.content?.[0]).toEqual({
    reasoningContent: { reasoningText: { text: "Let me see." } },
  });
  expect(openAi.requests.at(-1)?.body).toMatchObject({
    model: "gpt-test",
    messages: [
      { role: "system", content: "Be brief." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
          { type: "file", file: { filename: "a", file_data: "data:application/pdf;base64,AAAA" } },
        ],
      },
      { role: "assistant", tool_calls: [{ id: "1", function: { arguments: '{"x":1}' } }] },
      { role: "tool", tool_call_id: "1", content: "Error: no" },
      { role: "user", content: "Go on." },
    ],
    tool_choice: "required",
    response_format: { type: "json_schema", json_schema: { name: "s" } },
    max_completion_tokens: 9,
    temperature: 0.5,
    top_p: 0.9,
    stop: ["END"],
    reasoning_effort: "low",
    service_tier: "flex",
  });
});

describe("an address", () => {
  const post = (path: string, body: unknown, key = apiKey) =>
    fetch(`${served.url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify(body),
    });

  test("names models and adapters, raw and encoded", async () => {
    for (const path of ["/model/org/gpt-test/converse", "/model/org%2Fgpt-test/converse"]) {
      const response = await post(path, { messages });
      expect(response.headers.get("x-switchyard-model")).toBe("org/gpt-test");
    }
    for (const name of ["tiny:triage@1", "tiny%3Atriage%401"]) {
      const response = await post(`/model/${name}/converse`, { messages });
      expect(JSON.stringify(await response.json())).toContain("tiny:triage@1");
    }
  });

  test("refuses in AWS's words, by the field's name", async () => {
    await expect(
      connect("sk-sy-wrong").send(new ConverseCommand({ modelId: "claude-pass", messages })),
    ).rejects.toMatchObject({ name: "AccessDeniedException" });
    await expect(
      client.send(new ConverseCommand({ modelId: "nobody", messages })),
    ).rejects.toMatchObject({ name: "ResourceNotFoundException" });
    const refuse = async (body: object) => {
      const response = await post("/model/org/gpt-test/converse", body);
      return (await response.json()) as object;
    };
    expect(await refuse({})).toMatchObject({
      __type: "ValidationException",
      message: expect.stringContaining("'messages'"),
    });
    const guarded = await refuse({ messages, guardrailConfig: {} });
    expect(guarded).toMatchObject({ message: expect.stringContaining("'guardrailConfig'") });
    const video = [{ role: "user", content: [{ video: {} }] }];
    expect(await refuse({ messages: video })).toMatchObject({
      message: expect.stringContaining("'messages[0].content[0]' is a block of kind 'video'"),
    });
    expect((await post("/model/x/invoke", {})).status).toBe(404);
  });
});
