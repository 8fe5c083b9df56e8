/** AWS's Converse, by its own SDK. */
import assert from "node:assert/strict";
import {
  BedrockRuntimeClient,
  BedrockRuntimeServiceException,
  type ContentBlock,
  ConverseCommand,
  type ConverseCommandInput,
  ConverseStreamCommand,
  type ConverseStreamOutput,
  type Message,
  type TokenUsage,
  type ToolChoice,
} from "@aws-sdk/client-bedrock-runtime";
import { http1 } from "../../support/http1.ts";
import type { Client, Dialect } from "../driver.ts";
import type { Ask, Heard, Part, Raw, Turn } from "../neutral.ts";
import { keysWithin } from "./raw.ts";

export const bedrock: Dialect = {
  name: "Converse",
  // Its SDK sends no field that it does not know; for models' own there is a place, which `unknown` uses.
  lacks: new Set(["logprobs", "imageUrl", "refusal", "choiceNone", "freeText"]),
  ends: {
    stop: "end_turn",
    length: "max_tokens",
    stop_sequence: "stop_sequence",
    content_filter: "content_filtered",
    calls: "tool_use",
  },
  statuses: { failed: 502, overloaded: 503 },
  connect({ url, apiKey }): Client {
    const client = new BedrockRuntimeClient({
      region: "eu-west-1",
      endpoint: url,
      token: { token: apiKey },
      authSchemePreference: ["httpBearerAuth"],
      maxAttempts: 1,
      requestHandler: http1,
    });
    return {
      async ask(ask, { model, stream }) {
        const input = writeInput(ask, model);
        if (stream) return gather((await client.send(new ConverseStreamCommand(input))).stream);
        const { output, stopReason, usage } = await client.send(new ConverseCommand(input));
        return read(output?.message?.content ?? [], { stopReason, usage });
      },
      refusal(thrown) {
        const isOwn = thrown instanceof BedrockRuntimeServiceException;
        assert.ok(isOwn || thrown instanceof Error, `no error of AWS's SDK: ${thrown}`);
        const status = isOwn ? thrown.$metadata?.httpStatusCode : undefined;
        return { status, message: (thrown as Error).message };
      },
      guard,
    };
  },
};

function writeInput(ask: Ask, modelId: string): ConverseCommandInput {
  const { system, turns, tools, toolChoice, schema, stop, outputTokensMax, temperature } = ask;
  const mark = ask.keepsPrompt ? [{ cachePoint: { type: "default" as const } }] : [];
  const sampling = {
    ...(outputTokensMax && { maxTokens: outputTokensMax }),
    ...(temperature !== undefined && { temperature }),
    ...(stop && { stopSequences: stop }),
  };
  const choice = toolChoice && toolChoice !== "none" && writeChoice(toolChoice);
  return {
    modelId,
    ...(system !== undefined && { system: [{ text: system }, ...mark] }),
    messages: turns.map(writeTurn),
    inferenceConfig: sampling,
    ...(tools && {
      toolConfig: {
        tools: tools.map(({ parameters, ...tool }) => ({
          toolSpec: { ...tool, inputSchema: { json: { type: "object", ...parameters } as never } },
        })),
        ...(choice && { toolChoice: choice }),
      },
    }),
    ...(schema && {
      outputConfig: {
        textFormat: {
          type: "json_schema",
          structure: { jsonSchema: { name: "answer", schema: JSON.stringify(schema) } },
        },
      },
    }),
    ...((ask.reasoning || ask.unknown) && {
      additionalModelRequestFields: {
        ...(ask.reasoning && { thinking: { type: "enabled", budget_tokens: 1024 } }),
        ...(ask.unknown && { field_of_nobody: 1 }),
      },
    }),
  };
}

function writeChoice(choice: "required" | { name: string }): ToolChoice {
  return choice === "required" ? { any: {} } : { tool: choice };
}

function writeTurn(turn: Turn): Message {
  switch (turn.role) {
    case "user":
      return { role: "user", content: turn.parts.map(writePart) };
    case "assistant":
      return { role: "assistant", content: [{ text: turn.text }] };
    case "heard":
      return { role: "assistant", content: turn.heard.said as ContentBlock[] };
    case "results":
      return {
        role: "user",
        content: turn.results.map(({ id, text, failed }) => ({
          toolResult: {
            toolUseId: id,
            content: [{ text }],
            ...(failed && { status: "error" as const }),
          },
        })),
      };
    default:
      return turn satisfies never;
  }
}

function writePart(part: Part): ContentBlock {
  switch (part.type) {
    case "text":
      return { text: part.text };
    case "image":
      return { image: { format: "png", source: { bytes: Buffer.from(part.data, "base64") } } };
    case "image_url":
      throw new Error("Converse has no pictures by URL");
    case "pdf":
      return {
        document: {
          format: "pdf",
          name: nameOf(part),
          source: { bytes: Buffer.from(part.data, "base64") },
        },
      };
    case "text_file":
      return {
        document: {
          format: "txt",
          name: nameOf(part),
          source: { bytes: Buffer.from(part.text) },
        },
      };
    default:
      return part satisfies never;
  }
}

function nameOf({ name }: { name: string }): string {
  return name.replace(".", " ");
}

/** What a stream's pieces make, as blocks. */
async function gather(stream: AsyncIterable<ConverseStreamOutput> | undefined): Promise<Heard> {
  const blocks: Gathered[] = [];
  let stopReason: string | undefined;
  let usage: TokenUsage | undefined;
  for await (const event of stream ?? []) {
    const { contentBlockStart, contentBlockDelta, messageStop, metadata } = event;
    const failed = Object.entries(event).find(([name]) => name.endsWith("Exception"));
    if (failed) throw failed[1];
    const index = contentBlockDelta?.contentBlockIndex ?? contentBlockStart?.contentBlockIndex;
    if (index !== undefined) {
      blocks[index] ??= { text: "", input: "", cited: [] };
      const block = blocks[index];
      const { text, toolUse, reasoningContent, citation } = contentBlockDelta?.delta ?? {};
      if (contentBlockStart?.start?.toolUse) block.call = contentBlockStart.start.toolUse;
      block.text += text ?? "";
      block.input += toolUse?.input ?? "";
      if (reasoningContent) {
        block.thought = (block.thought ?? "") + (reasoningContent.text ?? "");
        if (reasoningContent.signature) block.signature = reasoningContent.signature;
        if (reasoningContent.redactedContent) block.redacted = reasoningContent.redactedContent;
      }
      if (citation) block.cited.push(citation);
    }
    if (messageStop) stopReason = messageStop.stopReason;
    if (metadata) usage = metadata.usage;
  }
  assert.ok(stopReason, "the stream stopped without a reason");
  return read(blocks.map(toBlock), { stopReason, usage });
}

type Gathered = {
  text: string;
  input: string;
  call?: { toolUseId: string | undefined; name: string | undefined };
  thought?: string;
  signature?: string;
  redacted?: Uint8Array;
  cited: object[];
};

function toBlock({
  text,
  input,
  call,
  thought,
  signature,
  redacted,
  cited,
}: Gathered): ContentBlock {
  if (call) return { toolUse: { ...call, input: JSON.parse(input) } } as ContentBlock;
  if (redacted) return { reasoningContent: { redactedContent: redacted } };
  if (thought !== undefined) {
    const reasoningText = { text: thought, ...(signature && { signature }) };
    return { reasoningContent: { reasoningText } };
  }
  if (cited.length > 0) return { citationsContent: { content: [{ text }], citations: cited } };
  return { text };
}

function read(
  content: ContentBlock[],
  { stopReason, usage }: { stopReason: string | undefined; usage: TokenUsage | undefined },
): Heard {
  const cited = content.flatMap(({ citationsContent }) => citationsContent ?? []);
  const { inputTokens = Number.NaN, outputTokens = Number.NaN } = usage ?? {};
  const { cacheReadInputTokens = 0, cacheWriteInputTokens = 0 } = usage ?? {};
  return {
    id: undefined,
    text: content
      .map(
        ({ text, citationsContent }) =>
          text ?? (citationsContent?.content ?? []).map((one) => one.text ?? "").join(""),
      )
      .join(""),
    reasoning: content
      .map(({ reasoningContent }) => reasoningContent?.reasoningText?.text ?? "")
      .join(""),
    calls: content.flatMap(({ toolUse }) =>
      toolUse
        ? [{ id: toolUse.toolUseId ?? "", name: toolUse.name ?? "", input: toolUse.input }]
        : [],
    ),
    finish: String(stopReason),
    refusal: "",
    cited: cited.flatMap(({ citations }) =>
      (citations ?? []).map(({ location }) => location?.web?.url ?? ""),
    ),
    logprobs: [],
    usage: {
      input: inputTokens + cacheReadInputTokens + cacheWriteInputTokens,
      cacheRead: cacheReadInputTokens,
      output: outputTokens,
      reasoning: undefined,
    },
    said: content,
  };
}

function guard({ text, type }: Raw, { stream }: { stream: boolean }): void {
  if (stream) assert.equal(type, "application/vnd.amazon.eventstream");
  else keysWithin(JSON.parse(text), ["output", "stopReason", "usage", "metrics"]);
}
