/** What OpenAI refuses of a chat or a response: the guard that finds bodies which were not, or wrongly, translated. */
import { z } from "zod";

const text = z.strictObject({ type: z.literal("text"), text: z.string() });
const texts = z.union([z.string(), z.array(text).min(1)]);
const dataOrHttps = z.string().regex(/^(https?:|data:[\w.+-]+\/[\w.+-]+;base64,)/);
const part = z.discriminatedUnion("type", [
  text,
  z.strictObject({
    type: z.literal("image_url"),
    image_url: z.strictObject({
      url: dataOrHttps,
      detail: z.enum(["auto", "low", "high"]).optional(),
    }),
  }),
  z.strictObject({
    type: z.literal("input_audio"),
    input_audio: z.strictObject({ data: z.string(), format: z.enum(["wav", "mp3"]) }),
  }),
  z.strictObject({
    type: z.literal("file"),
    file: z.union([
      z.strictObject({ file_id: z.string() }),
      z.strictObject({ filename: z.string(), file_data: dataOrHttps }),
    ]),
  }),
]);
const name = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/);
const named = z.strictObject({ name });
const toolCall = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("function"),
    id: z.string().min(1),
    function: z.strictObject({ name, arguments: z.string() }),
  }),
  z.strictObject({
    type: z.literal("custom"),
    id: z.string().min(1),
    custom: z.strictObject({ name, input: z.string() }),
  }),
]);
const message = z.discriminatedUnion("role", [
  z.strictObject({ role: z.enum(["system", "developer"]), content: texts }),
  z.strictObject({ role: z.literal("user"), content: z.union([z.string(), z.array(part).min(1)]) }),
  z.strictObject({
    role: z.literal("assistant"),
    content: z.union([z.string(), z.array(z.unknown())]).nullish(),
    refusal: z.string().nullish(),
    annotations: z.array(z.unknown()).optional(),
    /** Of those that are compatible, which say it themselves. */
    reasoning_content: z.string().optional(),
    reasoning: z.string().optional(),
    tool_calls: z.array(toolCall).min(1).optional(),
  }),
  z.strictObject({ role: z.literal("tool"), tool_call_id: z.string(), content: texts }),
]);
const schema = z.record(z.string(), z.unknown());
const text64 = z.string().max(64);
const number = (min: number, max: number) => z.number().min(min).max(max).optional();
const grammar = z.looseObject({ type: z.enum(["text", "grammar"]) });

const chatBody = z.strictObject({
  model: z.string(),
  messages: z.array(message).min(1),
  stream: z.boolean().optional(),
  stream_options: z.strictObject({ include_usage: z.boolean() }).optional(),
  tools: z
    .array(
      z.discriminatedUnion("type", [
        z.strictObject({
          type: z.literal("function"),
          function: z.strictObject({
            name,
            description: z.string().optional(),
            parameters: schema.optional(),
            strict: z.boolean().nullish(),
          }),
        }),
        z.strictObject({
          type: z.literal("custom"),
          custom: z.strictObject({
            name,
            description: z.string().optional(),
            format: grammar.optional(),
          }),
        }),
      ]),
    )
    .min(1)
    .optional(),
  tool_choice: z
    .union([
      z.enum(["none", "auto", "required"]),
      z.strictObject({ type: z.literal("function"), function: named }),
      z.strictObject({ type: z.literal("custom"), custom: named }),
    ])
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
  response_format: z
    .discriminatedUnion("type", [
      z.strictObject({ type: z.enum(["text", "json_object"]) }),
      z.strictObject({
        type: z.literal("json_schema"),
        json_schema: z.strictObject({
          name,
          description: z.string().optional(),
          schema,
          strict: z.boolean().nullish(),
        }),
      }),
    ])
    .optional(),
  max_completion_tokens: z.int().positive().optional(),
  max_tokens: z.int().positive().optional(),
  n: z.int().min(1).max(128).optional(),
  temperature: number(0, 2),
  top_p: number(0, 1),
  frequency_penalty: number(-2, 2),
  presence_penalty: number(-2, 2),
  logit_bias: z.record(z.string(), z.number()).optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: number(0, 20),
  seed: z.int().optional(),
  stop: z.union([z.string(), z.array(z.string()).min(1).max(4)]).optional(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh"]).optional(),
  verbosity: z.enum(["low", "medium", "high"]).optional(),
  user: text64.optional(),
  safety_identifier: text64.optional(),
  store: z.boolean().nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  service_tier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  prompt_cache_retention: z.string().optional(),
});

const callId = z.string().min(1).max(64);
const inputPart = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("input_text"), text: z.string() }),
  z.strictObject({
    type: z.literal("input_image"),
    detail: z.enum(["auto", "low", "high"]).optional(),
    image_url: dataOrHttps.optional(),
    file_id: z.string().optional(),
  }),
  z.strictObject({
    type: z.literal("input_file"),
    filename: z.string().optional(),
    file_data: dataOrHttps.optional(),
    file_id: z.string().optional(),
    file_url: z.string().optional(),
  }),
]);
const outputPart = z.union([
  z.looseObject({ type: z.literal("output_text"), text: z.string() }),
  z.strictObject({ type: z.literal("refusal"), refusal: z.string() }),
]);
const status = z.string().optional();
const id = z.string().optional();
const item = z.union([
  z.strictObject({
    type: z.literal("message").optional(),
    id,
    status,
    role: z.enum(["user", "system", "developer"]),
    content: z.union([z.string(), z.array(inputPart).min(1)]),
  }),
  z.strictObject({
    type: z.literal("message").optional(),
    id,
    status,
    role: z.literal("assistant"),
    phase: z.enum(["commentary", "final_answer"]).nullish(),
    content: z.union([z.string(), z.array(outputPart).min(1)]),
  }),
  z.strictObject({
    type: z.literal("function_call"),
    id,
    status,
    call_id: callId,
    name,
    arguments: z.string(),
  }),
  z.strictObject({
    type: z.literal("custom_tool_call"),
    id,
    status,
    call_id: callId,
    name,
    input: z.string(),
  }),
  z.strictObject({
    type: z.enum(["function_call_output", "custom_tool_call_output"]),
    id,
    status,
    call_id: callId,
    output: z.union([z.string(), z.array(inputPart).min(1)]),
  }),
  z.strictObject({
    type: z.literal("reasoning"),
    id,
    status,
    summary: z.array(z.strictObject({ type: z.literal("summary_text"), text: z.string() })),
    content: z.array(z.unknown()).optional(),
    /** OpenAI's own begin so; another's it cannot decrypt. */
    encrypted_content: z.string().startsWith("gAAAAA").nullish(),
  }),
]);

const responsesBody = z.strictObject({
  model: z.string(),
  input: z.union([z.string(), z.array(item).min(1)]),
  instructions: z.string().nullish(),
  stream: z.boolean().optional(),
  tools: z
    .array(
      z.union([
        z.strictObject({
          type: z.literal("function"),
          name,
          description: z.string().nullish(),
          parameters: schema.nullish(),
          strict: z.boolean().nullish(),
        }),
        z.strictObject({
          type: z.literal("custom"),
          name,
          description: z.string().nullish(),
          format: grammar.optional(),
        }),
      ]),
    )
    .optional(),
  tool_choice: z
    .union([
      z.enum(["none", "auto", "required"]),
      z.strictObject({ type: z.enum(["function", "custom"]), name }),
    ])
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
  text: z
    .strictObject({
      format: z
        .discriminatedUnion("type", [
          z.strictObject({ type: z.enum(["text", "json_object"]) }),
          z.strictObject({
            type: z.literal("json_schema"),
            name,
            description: z.string().optional(),
            schema,
            strict: z.boolean().nullish(),
          }),
        ])
        .optional(),
      verbosity: z.enum(["low", "medium", "high"]).optional(),
    })
    .optional(),
  max_output_tokens: z.int().min(16).optional(),
  temperature: number(0, 2),
  top_p: number(0, 1),
  top_logprobs: number(0, 20),
  reasoning: z
    .strictObject({
      effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh"]).nullish(),
      summary: z.enum(["auto", "concise", "detailed"]).nullish(),
    })
    .optional(),
  include: z.array(z.string()).optional(),
  store: z.boolean().optional(),
  safety_identifier: text64.optional(),
  user: z.string().optional(),
  metadata: z.record(z.string(), z.string()).nullish(),
  service_tier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  prompt_cache_retention: z.string().optional(),
  truncation: z.string().optional(),
});

const completionsBody = z.strictObject({
  model: z.string(),
  prompt: z.union([z.string(), z.array(z.unknown())]),
  stream: z.boolean().optional(),
  stream_options: z.strictObject({ include_usage: z.boolean() }).optional(),
  max_tokens: z.int().optional(),
  temperature: number(0, 2),
  stop: z.union([z.string(), z.array(z.string())]).optional(),
});
const bodies = { chat: chatBody, responses: responsesBody, completions: completionsBody };

/** The first thing that is wrong with a request, and where. */
export function findFault(
  body: unknown,
  kind: "chat" | "responses" | "completions",
): { param: string; message: string } | undefined {
  const parsed = bodies[kind].safeParse(body);
  if (!parsed.success) {
    const [first] = parsed.error.issues;
    return { param: first?.path.join(".") ?? "", message: z.prettifyError(parsed.error) };
  }
  if (kind === "responses") return outputsFault(body as { [field: string]: unknown });
  if (kind !== "chat") return undefined;
  return callsFault(parsed.data as z.infer<typeof chatBody>);
}

/** No output without its call, which OpenAI refuses whatever else it takes. */
export function outputsFault({ input }: { [field: string]: unknown }) {
  const called = new Set<unknown>();
  for (const { type, call_id } of Array.isArray(input) ? input : []) {
    if (/_call$/.test(type)) called.add(call_id);
    else if (/^(?:function|custom_tool)_call_output$/.test(type) && !called.has(call_id)) {
      const message = `No tool call found for function call output with call_id ${call_id}.`;
      return { param: "input", message };
    }
  }
  return undefined;
}

/** Each call is answered before anybody else speaks, and nothing is answered that was not called. */
function callsFault({ messages, tools, ...more }: z.infer<typeof chatBody>) {
  let open: string[] = [];
  for (const [index, one] of messages.entries()) {
    const param = `messages.${index}`;
    if (one.role === "tool") {
      if (!open.includes(one.tool_call_id)) {
        const message = `messages with role 'tool' must be a response to a preceding message with 'tool_calls'.`;
        return { param, message };
      }
      open = open.filter((id) => id !== one.tool_call_id);
      continue;
    }
    if (open.length > 0) {
      const message = `An assistant message with 'tool_calls' must be followed by tool messages: ${open.join()}`;
      return { param, message };
    }
    if (one.role === "assistant") open = (one.tool_calls ?? []).map((call) => call.id);
  }
  const alone = ["tool_choice", "parallel_tool_calls"].find((field) => field in more);
  if (!tools && alone) return { param: alone, message: `'${alone}' is only allowed with 'tools'.` };
  return undefined;
}
