/** What Cohere refuses: the guard that finds bodies which were not, or wrongly, translated. */
import { z } from "zod";

const text = z.strictObject({ type: z.literal("text"), text: z.string().min(1) });
const image = z.strictObject({
  type: z.literal("image_url"),
  image_url: z.strictObject({
    url: z.string().regex(/^(https?:|data:image\/)/),
    detail: z.enum(["auto", "low", "high"]).optional(),
  }),
});
const thinking = z.strictObject({ type: z.literal("thinking"), thinking: z.string() });
const document = z.strictObject({
  id: z.string().optional(),
  data: z.record(z.string(), z.unknown()),
});
const toolCall = z.strictObject({
  id: z.string().min(1),
  type: z.literal("function"),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});

const message = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("system"), content: z.union([z.string(), z.array(text)]) }),
  z.strictObject({
    role: z.literal("user"),
    content: z.union([z.string().min(1), z.array(z.union([text, image])).min(1)]),
  }),
  z.strictObject({
    role: z.literal("assistant"),
    content: z.union([z.string(), z.array(z.union([text, thinking]))]).optional(),
    tool_plan: z.string().optional(),
    tool_calls: z.array(toolCall).optional(),
    citations: z.array(z.unknown()).optional(),
  }),
  z.strictObject({
    role: z.literal("tool"),
    tool_call_id: z.string(),
    content: z.union([
      z.string().min(1),
      z.array(z.union([text, z.strictObject({ type: z.literal("document"), document })])),
    ]),
  }),
]);

const tool = z.strictObject({
  type: z.literal("function"),
  function: z.strictObject({
    name: z.string().regex(/^[a-zA-Z0-9_-]+$/),
    description: z.string().optional(),
    parameters: z.looseObject({ type: z.literal("object") }),
  }),
});

const priority = z.int().optional();
const chatBody = z.strictObject({
  model: z.string(),
  stream: z.boolean(),
  messages: z.array(message).min(1),
  tools: z.array(tool).min(1).optional(),
  strict_tools: z.boolean().optional(),
  tool_choice: z.enum(["REQUIRED", "NONE"]).optional(),
  documents: z.array(z.union([z.string(), document])).optional(),
  citation_options: z.looseObject({}).optional(),
  response_format: z
    .discriminatedUnion("type", [
      z.strictObject({ type: z.literal("text") }),
      z.strictObject({
        type: z.literal("json_object"),
        json_schema: z.looseObject({}).optional(),
      }),
    ])
    .optional(),
  safety_mode: z.enum(["CONTEXTUAL", "STRICT", "OFF"]).optional(),
  max_tokens: z.int().positive().optional(),
  stop_sequences: z.array(z.string()).max(5).optional(),
  temperature: z.number().min(0).optional(),
  seed: z.int().optional(),
  frequency_penalty: z.number().min(0).max(1).optional(),
  presence_penalty: z.number().min(0).max(1).optional(),
  k: z.number().min(0).max(500).optional(),
  p: z.number().min(0.01).max(0.99).optional(),
  logprobs: z.boolean().optional(),
  thinking: z
    .strictObject({
      type: z.enum(["enabled", "disabled"]),
      token_budget: z.int().positive().optional(),
    })
    .optional(),
  priority,
});
export type CohereChatBody = z.infer<typeof chatBody>;

export const embedBody = z.strictObject({
  model: z.string(),
  texts: z.array(z.string()).min(1).max(96),
  input_type: z.enum(["search_document", "search_query", "classification", "clustering"]),
  embedding_types: z.array(z.enum(["float", "base64"])).optional(),
  output_dimension: z.union([256, 512, 1024, 1536].map((size) => z.literal(size))).optional(),
  max_tokens: z.int().optional(),
  truncate: z.enum(["NONE", "START", "END"]).optional(),
  priority,
});
export type CohereEmbedBody = z.infer<typeof embedBody>;

/** The first thing that is wrong with a chat. */
export function findFault(body: unknown): string | undefined {
  const parsed = chatBody.safeParse(body);
  if (!parsed.success) return `invalid request: ${z.prettifyError(parsed.error)}`;
  const { messages, tools, tool_choice, response_format, documents } = parsed.data;
  if (messages.some(({ role }, at) => role === "system" && at > 0)) {
    return "invalid request: system turn must be the first in the list";
  }
  if (response_format?.type === "json_object" && (tools || documents)) {
    return "invalid request: response_format is not supported with RAG.";
  }
  if (tool_choice && !tools) return "invalid request: tool_choice requires tools";
  const { frequency_penalty, presence_penalty } = parsed.data;
  if (frequency_penalty && presence_penalty) {
    return "invalid request: cannot specify both frequency_penalty and presence_penalty.";
  }
  const calls = messages.flatMap((one) =>
    one.role === "assistant" ? (one.tool_calls ?? []).map(({ id }) => id) : [],
  );
  const stray = messages.find((one) => one.role === "tool" && !calls.includes(one.tool_call_id));
  return stray && "invalid request: tool call id not found in previous tool calls";
}
