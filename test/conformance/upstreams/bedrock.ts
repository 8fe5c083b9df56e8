/** AWS Bedrock with one of Anthropic's models, emulated. */
import { type BedrockEmulatedAnswer, startBedrockEmulator } from "../../emulators/bedrock.ts";
import type { Fault, Upstream } from "../driver.ts";
import { nothingSeen, type Said, type Seen, say } from "../neutral.ts";

export const bedrockKey = "key-of-aws";

export async function startBedrock(): Promise<Upstream & { baseUrl: string }> {
  let script: readonly Said[] = [];
  let turn = 0;
  const emulator = await startBedrockEmulator({
    strict: true,
    apiKey: bedrockKey,
    answer: () => toAnswer(script[Math.min(turn++, script.length - 1)] ?? {}),
  });
  return {
    name: "Bedrock",
    baseUrl: emulator.baseUrl,
    model: (fault) => `eu.anthropic.claude-opus-4-8-v1:0${fault ? `!${faults[fault]}` : ""}`,
    prepare(said) {
      script = said;
      turn = 0;
    },
    seen: () => read(emulator.requests.at(-1)?.body ?? {}),
    scripted: true,
    tells: { cacheRead: true, cacheWrite: true, reasoning: false, logprobs: false },
    seals: true,
    refuses: false,
    filters: true,
    stopped: true,
    close: () => emulator.close(),
  };
}

const faults: Readonly<Record<Fault, string>> = {
  split: "split",
  "400": "status-400",
  "401": "status-403",
  "429": "status-429",
  "500": "status-500",
  overloaded: "status-503",
  broken: "error-3",
  cut: "cut-3",
};

function toAnswer(said: Said): BedrockEmulatedAnswer {
  const { text, reasoning, calls = [], cites, end, usage } = said;
  const citation = cites && { title: cites.title, location: { web: { url: cites.url } } };
  return {
    content: [
      ...(reasoning === undefined
        ? []
        : [{ reasoningContent: { reasoningText: { text: reasoning, signature: "c2lnbmVk" } } }]),
      ...(text === undefined
        ? []
        : [
            citation
              ? { citationsContent: { content: [{ text }], citations: [citation] } }
              : { text },
          ]),
      ...calls.map(({ id, name, input }) => ({ toolUse: { toolUseId: id, name, input } })),
    ],
    ...(end && { stopReason: ends[end] }),
    ...(usage && {
      usage: {
        inputTokens: usage.input,
        cacheReadInputTokens: usage.cacheRead ?? 0,
        cacheWriteInputTokens: usage.cacheWrite ?? 0,
        outputTokens: usage.output + (usage.reasoning ?? 0),
        totalTokens: usage.input + usage.output,
      },
    }),
  };
}

const ends = {
  length: "max_tokens",
  stop_sequence: "stop_sequence",
  content_filter: "content_filtered",
};

// biome-ignore lint/suspicious/noExplicitAny: what was sent is any JSON
type Fields = Record<string, any>;

function read(body: Fields): Seen {
  const seen = structuredClone(nothingSeen);
  const system: Fields[] = body.system ?? [];
  seen.system = system.flatMap(({ text }) => text ?? []).join("\n");
  seen.cacheMarks = system.filter((block) => block.cachePoint).length;
  for (const { role, content } of body.messages as { role: string; content: Fields[] }[]) {
    for (const { text, image, document, toolUse, toolResult, reasoningContent } of content) {
      if (text !== undefined) say(seen.said, role, text);
      if (image) seen.images.push(image.source.bytes);
      if (document) seen.files.push(document.source.bytes);
      if (toolUse) {
        seen.calls.push({ id: toolUse.toolUseId, name: toolUse.name, input: toolUse.input });
      }
      if (toolResult) {
        const { toolUseId: id, content, status } = toolResult;
        const told = content.map((one: Fields) => one.text).join("");
        seen.results.push({ id, text: told, failed: status === "error" });
      }
      if (reasoningContent) seen.seals.push(reasoningContent.reasoningText?.signature);
    }
  }
  const { toolConfig, outputConfig, inferenceConfig = {}, additionalModelRequestFields } = body;
  const { any, tool } = toolConfig?.toolChoice ?? {};
  const schema = outputConfig?.textFormat?.structure.jsonSchema.schema;
  return {
    ...seen,
    tools: (toolConfig?.tools ?? []).map((one: Fields) => one.toolSpec.name),
    choice: tool?.name ?? (any && "required"),
    schema: schema && JSON.parse(schema),
    stop: inferenceConfig.stopSequences ?? [],
    outputTokensMax: inferenceConfig.maxTokens,
    temperature: inferenceConfig.temperature,
    thinks: additionalModelRequestFields?.thinking !== undefined,
  };
}
