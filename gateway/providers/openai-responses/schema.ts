/** The fields that are read from responses; all else passes by. */
import { z } from "zod";
import { contentLogprob } from "../openai/schema.ts";

const text = z.string();
const optional = z.string().nullish();
const logprobs = z.array(contentLogprob).nullish().catch(undefined);
const part = z.union([
  z.object({
    type: z.literal("output_text"),
    text,
    annotations: z.array(z.unknown()).nullish(),
    logprobs,
  }),
  z.object({ type: z.literal("refusal"), refusal: text }),
  z.object({ type: z.literal("unknown") }),
]);
const summary = z.array(z.object({ text }));
const known = z.discriminatedUnion("type", [
  z.object({ type: z.literal("message"), content: z.array(part.catch({ type: "unknown" })) }),
  z.object({ type: z.literal("function_call"), call_id: text, name: text, arguments: text }),
  z.object({ type: z.literal("custom_tool_call"), call_id: text, name: text, input: text }),
  z.object({
    type: z.literal("reasoning"),
    id: optional,
    summary: summary.catch([]),
    content: summary.nullish().catch(undefined),
    encrypted_content: optional,
  }),
  z.object({ type: z.literal("unknown") }),
]);
const item = known.catch({ type: "unknown" });
export type OutputItem = z.infer<typeof known>;

const count = z.int().nonnegative();
const usage = z
  .object({
    input_tokens: count,
    output_tokens: count,
    total_tokens: count.nullish(),
    input_tokens_details: z
      .object({ cached_tokens: count.nullish(), cache_write_tokens: count.nullish() })
      .nullish(),
    output_tokens_details: z.object({ reasoning_tokens: count.nullish() }).nullish(),
  })
  .nullish()
  .catch(undefined);

export const responseObject = z.object({
  id: optional,
  model: optional,
  status: optional,
  error: z.object({ code: optional, message: optional }).nullish(),
  incomplete_details: z.object({ reason: optional }).nullish(),
  output: z.array(item),
  usage,
});

const delta = text;
const output_index = count;
const event = <T extends string, S extends z.ZodRawShape>(type: T, shape: S) =>
  z.object({ type: z.literal(type), ...shape });
export const streamEvent = z.discriminatedUnion("type", [
  event("response.created", { response: responseObject }),
  event("response.output_text.delta", {
    delta,
    logprobs,
  }),
  event("response.refusal.delta", { delta }),
  event("response.reasoning_summary_text.delta", { delta }),
  event("response.reasoning_text.delta", { delta }),
  event("response.output_text.annotation.added", { annotation: z.unknown() }),
  event("response.output_item.added", { output_index, item }),
  event("response.output_item.done", { output_index, item }),
  event("response.function_call_arguments.delta", { output_index, delta }),
  event("response.custom_tool_call_input.delta", { output_index, delta }),
  event("response.completed", { response: responseObject }),
  event("response.incomplete", { response: responseObject }),
  event("response.failed", { response: responseObject }),
  event("error", { message: optional, code: optional, error: z.unknown().optional() }),
]);
