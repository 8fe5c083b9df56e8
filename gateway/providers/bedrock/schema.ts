/** The fields that are read from Bedrock's answers; all else passes by. */
import { z } from "zod";

const text = z.string().nullish().catch(undefined);
const count = z.int().nonnegative().nullish().catch(undefined);

/** Counts are disjoint: what was read from the cache and written to it stands beside the input. */
export const bedrockUsage = z.object({
  inputTokens: z.int().nonnegative(),
  outputTokens: z.int().nonnegative(),
  cacheReadInputTokens: count,
  cacheWriteInputTokens: count,
});

export const citation = z.object({
  title: text,
  source: text,
  sourceContent: z.array(z.object({ text })).nullish(),
  location: z
    .object({ web: z.object({ url: text }).nullish() })
    .nullish()
    .catch(undefined),
});
export type BedrockCitation = z.infer<typeof citation>;

const block = z.object({
  text,
  toolUse: z
    .object({ toolUseId: z.string(), name: z.string(), input: z.unknown().optional() })
    .nullish(),
  reasoningContent: z
    .object({
      reasoningText: z.object({ text, signature: text }).nullish(),
      redactedContent: text,
    })
    .nullish(),
  citationsContent: z
    .object({
      content: z.array(z.object({ text })).nullish(),
      citations: z.array(citation).nullish(),
    })
    .nullish(),
});
export type BedrockBlock = z.infer<typeof block>;

export const converseAnswer = z.object({
  output: z.object({ message: z.object({ content: z.array(block) }) }),
  stopReason: text,
  usage: z.unknown().optional(),
});
export type ConverseAnswer = z.infer<typeof converseAnswer>;

/** What the events of a stream hold; which of them it is, its frame's header tells. */
export const converseEvent = z.object({
  contentBlockIndex: z.int().nonnegative().nullish(),
  start: z
    .object({ toolUse: z.object({ toolUseId: z.string(), name: z.string() }).nullish() })
    .nullish(),
  delta: z
    .object({
      text,
      toolUse: z.object({ input: text }).nullish(),
      reasoningContent: z.object({ text, signature: text, redactedContent: text }).nullish(),
      citation: citation.nullish(),
    })
    .nullish(),
  stopReason: text,
  usage: z.unknown().optional(),
});

/** AWS writes the word small or large. */
export const bedrockError = z.object({
  message: text,
  Message: text,
  __type: text,
});
