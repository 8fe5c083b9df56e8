/** The fields that are read from Cohere's answers; all else passes by. */
import { z } from "zod";

const text = z.string().nullish().catch(undefined);
const count = z.int().nonnegative().nullish().catch(undefined);
const counts = z.object({ input_tokens: count, output_tokens: count }).nullish().catch(undefined);

/** What is billed may be less than what the model read, because Cohere's own words in the prompt are free. */
export const cohereUsage = z.object({
  billed_units: counts,
  tokens: counts,
  cached_tokens: count,
});

/** Of a document what it was sent with; of a tool what it answered. */
const source = z.object({
  type: text,
  id: text,
  document: z.record(z.string(), z.unknown()).nullish().catch(undefined),
  tool_output: z.record(z.string(), z.unknown()).nullish().catch(undefined),
});
export const cohereCitation = z.object({
  start: count,
  end: count,
  text,
  content_index: count,
  type: text,
  sources: z.array(source).nullish().catch(undefined),
});
export type CohereCitation = z.infer<typeof cohereCitation>;

/** A stretch of the text, which may be several tokens. */
const logprobItem = z.object({ text, logprobs: z.array(z.number()).nullish() });
export type CohereLogprobs = z.infer<typeof logprobItem>;

const toolCall = z.object({
  id: text,
  function: z.object({ name: text, arguments: text }).nullish(),
});

export const cohereAnswer = z.object({
  id: text,
  finish_reason: text,
  message: z.object({
    content: z.array(z.object({ type: text, text, thinking: text })).nullish(),
    tool_plan: text,
    tool_calls: z.array(toolCall).nullish(),
    citations: z.array(cohereCitation).nullish().catch(undefined),
  }),
  usage: cohereUsage.nullish().catch(undefined),
  logprobs: z.array(logprobItem).nullish().catch(undefined),
});
export type CohereAnswer = z.infer<typeof cohereAnswer>;

const index = count;
const delta = <S extends z.ZodRawShape>(shape: S) =>
  z.object({ message: z.object(shape).nullish() }).nullish();
const content = z.object({ text, thinking: text }).nullish().catch(undefined);

export const cohereEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("message-start"), id: text }),
  z.object({ type: z.literal("content-start"), index, delta: delta({ content }) }),
  z.object({
    type: z.literal("content-delta"),
    index,
    delta: delta({ content }),
    logprobs: logprobItem.nullish().catch(undefined),
  }),
  z.object({ type: z.literal("content-end"), index }),
  z.object({ type: z.literal("tool-plan-delta"), delta: delta({ tool_plan: text }) }),
  z.object({ type: z.literal("tool-call-start"), index, delta: delta({ tool_calls: toolCall }) }),
  z.object({ type: z.literal("tool-call-delta"), index, delta: delta({ tool_calls: toolCall }) }),
  z.object({ type: z.literal("tool-call-end"), index }),
  z.object({
    type: z.literal("citation-start"),
    delta: delta({ citations: cohereCitation.nullish().catch(undefined) }),
  }),
  z.object({ type: z.literal("citation-end") }),
  z.object({
    type: z.literal("message-end"),
    delta: z
      .object({
        finish_reason: text,
        error: text,
        usage: cohereUsage.nullish().catch(undefined),
      })
      .nullish(),
  }),
]);
export type CohereEvent = z.infer<typeof cohereEvent>;

export const cohereError = z.object({ message: z.string() });

export const cohereVectors = z.object({
  id: text,
  embeddings: z.object({
    float: z.array(z.array(z.number())).nullish(),
    base64: z.array(z.string()).nullish(),
  }),
  meta: z.object({ billed_units: counts, tokens: counts }).nullish().catch(undefined),
});
