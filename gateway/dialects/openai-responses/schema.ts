/** The fields that are read of a request to the Responses API; all others pass by. */
import { z } from "zod";

const text = z.string();
const optionalText = z.string().nullish();

export const messageContent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("input_text"), text }),
  z.object({ type: z.literal("output_text"), text }),
  z.object({ type: z.literal("refusal"), refusal: text }),
  z.object({
    type: z.literal("input_image"),
    image_url: optionalText,
    file_id: optionalText,
    detail: z.enum(["auto", "low", "high", "original"]).nullish(),
  }),
  z.object({
    type: z.literal("input_file"),
    file_id: optionalText,
    file_data: optionalText,
    file_url: optionalText,
    filename: optionalText,
  }),
]);

const callId = z.string().min(1);
const output = z.union([text, z.array(z.unknown())]);
const thought = z.array(z.object({ text }));
export const inputItem = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("message"),
    role: z.enum(["user", "assistant", "system", "developer"]),
    content: z.union([text, z.array(z.unknown())]),
  }),
  z.object({ type: z.literal("function_call"), call_id: callId, name: text, arguments: text }),
  z.object({ type: z.literal("function_call_output"), call_id: callId, output }),
  z.object({ type: z.literal("custom_tool_call"), call_id: callId, name: text, input: text }),
  z.object({ type: z.literal("custom_tool_call_output"), call_id: callId, output }),
  z.object({
    type: z.literal("reasoning"),
    id: optionalText,
    summary: thought,
    content: thought.nullish(),
    encrypted_content: optionalText,
  }),
]);

const namedChoice = <T extends string>(type: T) => z.object({ type: z.literal(type), name: text });
export const toolChoice = z.union([
  z.enum(["auto", "none", "required"]),
  z.discriminatedUnion("type", [
    namedChoice("function"),
    namedChoice("custom"),
    z.object({
      type: z.literal("allowed_tools"),
      mode: z.enum(["auto", "required"]),
      tools: z.array(z.object({ name: z.string().optional() })),
    }),
  ]),
]);

export const functionTool = z.object({
  name: text,
  description: optionalText,
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});
export const customTool = z.object({
  name: text,
  description: optionalText,
  format: z.unknown().optional(),
});

const format = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object") }),
  z.object({
    type: z.literal("json_schema"),
    name: text,
    description: optionalText,
    schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().nullish(),
  }),
]);

export const responsesBody = z.object({
  model: z.string().min(1).max(512),
  input: z.union([text, z.array(z.unknown()).max(10_000)]).nullish(),
  instructions: optionalText,
  previous_response_id: optionalText,
  conversation: z.union([text, z.object({ id: text })]).nullish(),
  background: z.boolean().nullish(),
  store: z.boolean().nullish(),
  tools: z.array(z.looseObject({ type: z.string() })).nullish(),
  /** Read by `toolChoice`, when it has to mean something elsewhere. */
  tool_choice: z.unknown().optional(),
  parallel_tool_calls: z.boolean().nullish(),
  max_output_tokens: z
    .int()
    .min(16)
    .max(1 << 24)
    .nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  include: z.array(z.string()).nullish(),
  text: z
    .object({
      format: format.nullish(),
      verbosity: z.enum(["low", "medium", "high"]).nullish(),
    })
    .nullish(),
  reasoning: z
    .object({
      effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).nullish(),
      summary: z.enum(["auto", "concise", "detailed"]).nullish(),
    })
    .nullish(),
  user: optionalText,
  safety_identifier: optionalText,
  metadata: z.record(z.string().max(64), z.string().max(512)).nullish(),
  stream: z.boolean().nullish(),
});

export const compactBody = responsesBody
  .pick({ model: true, input: true, instructions: true, previous_response_id: true })
  .extend({ prompt_cache_key: optionalText });
