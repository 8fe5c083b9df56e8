/** What is read of a request to AWS's Converse. A block is an object with one member, which says what it is. */
import { z } from "zod";

const text = z.string().nullish();
const bytes = z.looseObject({ bytes: text });
const media = z.looseObject({ format: z.string(), source: bytes });
const cachePoint = z.looseObject({ ttl: z.enum(["5m", "1h"]).nullish() });
const free = z.record(z.string(), z.unknown());

const document = z.looseObject({ format: text, name: text, source: bytes.extend({ text }) });
const resultBlock = z.looseObject({
  text,
  json: z.unknown().optional(),
  image: media.nullish(),
  document: document.nullish(),
});
export type ResultBlock = z.infer<typeof resultBlock>;

const block = z.looseObject({
  text,
  image: media.nullish(),
  document: document.nullish(),
  audio: media.nullish(),
  toolUse: z
    .object({ toolUseId: z.string(), name: z.string(), input: z.unknown().optional() })
    .nullish(),
  toolResult: z
    .object({ toolUseId: z.string(), content: z.array(resultBlock), status: text })
    .nullish(),
  reasoningContent: z
    .object({
      reasoningText: z.object({ text, signature: text }).nullish(),
      redactedContent: text,
    })
    .nullish(),
  citationsContent: z.object({ content: z.array(z.object({ text })).nullish() }).nullish(),
  cachePoint: cachePoint.nullish(),
});
export type Block = z.infer<typeof block>;

const tool = z.looseObject({
  toolSpec: z
    .object({
      name: z.string(),
      description: text,
      inputSchema: z.object({ json: free }),
      strict: z.boolean().nullish(),
    })
    .nullish(),
  cachePoint: cachePoint.nullish(),
});

const number = z.number().nullish();
export const converseBody = z.object({
  messages: z
    .array(z.object({ role: z.enum(["user", "assistant"]), content: z.array(block) }))
    .min(1),
  system: z.array(block).nullish(),
  inferenceConfig: z
    .object({
      maxTokens: z.int().min(1).nullish(),
      temperature: number,
      topP: number,
      stopSequences: z.array(z.string()).nullish(),
    })
    .nullish(),
  toolConfig: z
    .object({
      tools: z.array(tool),
      toolChoice: z
        .object({
          auto: free.nullish(),
          any: free.nullish(),
          tool: z.object({ name: z.string() }).nullish(),
        })
        .nullish(),
    })
    .nullish(),
  outputConfig: z
    .object({
      textFormat: z
        .object({
          type: z.literal("json_schema"),
          structure: z.object({
            jsonSchema: z.object({ schema: z.string(), name: text, description: text }),
          }),
        })
        .nullish(),
      effort: text,
    })
    .nullish(),
  additionalModelRequestFields: free.nullish(),
  requestMetadata: z.record(z.string(), z.string()).nullish(),
  serviceTier: z.object({ type: z.string() }).nullish(),
  guardrailConfig: z.unknown().optional(),
  promptVariables: z.unknown().optional(),
});
export type ConverseBody = z.infer<typeof converseBody>;
