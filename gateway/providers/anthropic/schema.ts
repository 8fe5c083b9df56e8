/** The fields that are read from Anthropic's answers; all else passes by. */
import { z } from "zod";

const count = z.int().nonnegative().nullish();

export const anthropicUsage = z.object({
  input_tokens: count,
  cache_creation_input_tokens: count,
  cache_read_input_tokens: count,
  output_tokens: count,
  output_tokens_details: z.object({ thinking_tokens: count }).nullish().catch(undefined),
});
export type AnthropicUsage = z.infer<typeof anthropicUsage>;

const text = z.string().nullish();

/** A block of any type, with the fields that some have. */
export const contentBlock = z.object({
  type: z.string(),
  text,
  citations: z
    .array(z.looseObject({ type: z.string() }))
    .nullish()
    .catch(undefined),
  thinking: text,
  signature: text,
  data: text,
  id: text,
  name: text,
  input: z.unknown().optional(),
});
export type ContentBlock = z.infer<typeof contentBlock>;

const stop = {
  stop_reason: text,
  stop_sequence: text,
  stop_details: z.object({ explanation: text }).nullish().catch(undefined),
};
export const stopFields = z.object(stop);
export type StopFields = z.infer<typeof stopFields>;

export const anthropicMessage = z.object({
  type: z.literal("message"),
  id: text,
  model: text,
  content: z.array(contentBlock),
  usage: z.unknown().optional(),
  ...stop,
});
export type AnthropicMessage = z.infer<typeof anthropicMessage>;

export const streamEvent = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("message_start"),
    message: z.object({ id: text, model: text, usage: z.unknown().optional() }),
  }),
  z.object({
    type: z.literal("content_block_start"),
    index: z.int().nonnegative(),
    content_block: contentBlock,
  }),
  z.object({
    type: z.literal("content_block_delta"),
    index: z.int().nonnegative(),
    delta: z.object({
      type: z.string(),
      text,
      thinking: text,
      signature: text,
      partial_json: text,
      citation: z.looseObject({ type: z.string() }).nullish().catch(undefined),
    }),
  }),
  z.object({ type: z.literal("content_block_stop"), index: z.int().nonnegative() }),
  z.object({ type: z.literal("message_delta"), delta: stopFields, usage: z.unknown().optional() }),
  z.object({ type: z.literal("message_stop") }),
]);
export type StreamEvent = z.infer<typeof streamEvent>;

export const anthropicErrorBody = z.object({
  error: z.object({
    type: text,
    message: text,
    details: z.object({ error_code: text }).nullish().catch(undefined),
  }),
});
export type AnthropicErrorBody = z.infer<typeof anthropicErrorBody>;

export const tokenCount = z.object({ input_tokens: z.int().nonnegative() });
