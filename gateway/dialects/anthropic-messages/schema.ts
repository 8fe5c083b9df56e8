/** The wire shapes of Anthropic's `POST /v1/messages`, as far as they are read. */
import { z } from "zod";

const cacheControl = z
  .object({ type: z.literal("ephemeral"), ttl: z.enum(["5m", "1h"]).nullish() })
  .nullish();
const cached = { cache_control: cacheControl };
export type Cached = { cache_control?: z.infer<typeof cacheControl> };

export const textBlock = z.object({
  type: z.literal("text"),
  text: z.string(),
  citations: z.array(z.looseObject({ type: z.string() })).nullish(),
  ...cached,
});

const base64Source = z.object({
  type: z.literal("base64"),
  media_type: z.string(),
  data: z.string(),
});
const urlSource = z.object({ type: z.literal("url"), url: z.string() });
const fileSource = z.object({ type: z.literal("file"), file_id: z.string() });

export const imageBlock = z.object({
  type: z.literal("image"),
  source: z.discriminatedUnion("type", [base64Source, urlSource, fileSource]),
  ...cached,
});

export const documentBlock = z.object({
  type: z.literal("document"),
  source: z.discriminatedUnion("type", [
    base64Source,
    urlSource,
    fileSource,
    z.object({ type: z.literal("text"), data: z.string() }),
    z.object({
      type: z.literal("content"),
      content: z.union([
        z.string(),
        z.array(z.discriminatedUnion("type", [textBlock, imageBlock])),
      ]),
    }),
  ]),
  title: z.string().nullish(),
  context: z.string().nullish(),
  citations: z.object({ enabled: z.boolean().nullish() }).nullish(),
  ...cached,
});

export const searchResultBlock = z.object({
  type: z.literal("search_result"),
  source: z.string(),
  title: z.string(),
  content: z.array(textBlock),
  ...cached,
});

export const shownBlock = z.discriminatedUnion("type", [
  textBlock,
  imageBlock,
  documentBlock,
  searchResultBlock,
]);
export type ShownBlock = z.infer<typeof shownBlock>;

export const toolResultBlock = z.object({
  type: z.literal("tool_result"),
  tool_use_id: z.string(),
  content: z.union([z.string(), z.array(z.looseObject({ type: z.string() }))]).nullish(),
  is_error: z.boolean().nullish(),
  ...cached,
});

export const saidBlock = z.discriminatedUnion("type", [
  textBlock,
  z.object({ type: z.literal("thinking"), thinking: z.string(), signature: z.string() }),
  z.object({ type: z.literal("redacted_thinking"), data: z.string() }),
  z.object({
    type: z.literal("tool_use"),
    id: z.string(),
    name: z.string(),
    input: z.unknown(),
    ...cached,
  }),
]);
export type SaidBlock = z.infer<typeof saidBlock>;

const anyBlock = z.looseObject({ type: z.string() });
export type AnyBlock = z.infer<typeof anyBlock>;
const content = z.union([z.string(), z.array(anyBlock)]);
const message = z.object({ role: z.enum(["user", "assistant", "system"]), content });

export const functionTool = z.looseObject({
  type: z.literal("custom").nullish(),
  name: z.string(),
  description: z.string().nullish(),
  input_schema: z.record(z.string(), z.unknown()),
  strict: z.boolean().nullish(),
  ...cached,
});

const disable = { disable_parallel_tool_use: z.boolean().nullish() };
const toolChoice = z.discriminatedUnion("type", [
  z.object({ type: z.literal("auto"), ...disable }),
  z.object({ type: z.literal("any"), ...disable }),
  z.object({ type: z.literal("tool"), name: z.string(), ...disable }),
  z.object({ type: z.literal("none") }),
]);

const display = { display: z.enum(["summarized", "omitted"]).nullish() };
const thinking = z.discriminatedUnion("type", [
  z.object({ type: z.literal("enabled"), budget_tokens: z.int().positive(), ...display }),
  z.object({ type: z.literal("adaptive"), ...display }),
  z.object({ type: z.literal("between_tools") }),
  z.object({ type: z.literal("disabled") }),
]);

const outputFormat = z.object({
  type: z.literal("json_schema"),
  schema: z.record(z.string(), z.unknown()),
});

/** What both addresses take. */
const prompt = {
  model: z.string().min(1),
  messages: z.array(message).min(1),
  system: z.union([z.string(), z.array(textBlock)]).nullish(),
  tools: z.array(z.looseObject({ type: z.string().nullish() })).nullish(),
};

/** The fields that every request needs, whatever it is answered by. */
export const messagesRequest = z.object({
  ...prompt,
  max_tokens: z.int().positive(),
  stream: z.boolean().nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
});
export type MessagesRequest = z.infer<typeof messagesRequest>;

/** `POST /v1/messages/count_tokens` makes nothing, so it names no most. */
export const countRequest = messagesRequest.omit({ max_tokens: true, stream: true });

/** All that has a place in the canonical form. */
export const messagesBody = z.object({
  ...prompt,
  max_tokens: z.int().positive().nullish(),
  stream: z.boolean().nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: thinking.nullish(),
  output_config: z
    .object({
      effort: z.enum(["low", "medium", "high", "xhigh", "max"]).nullish(),
      format: outputFormat.nullish(),
    })
    .nullish(),
  /** Where earlier betas had `output_config.format`. */
  output_format: outputFormat.nullish(),
  temperature: z.number().min(0).max(1).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().nonnegative().nullish(),
  stop_sequences: z.array(z.string()).nullish(),
  metadata: z.object({ user_id: z.string().nullish() }).nullish(),
  service_tier: z.string().nullish(),
  mcp_servers: z.array(z.unknown()).nullish(),
  container: z.unknown().optional(),
});
export type MessagesBody = z.infer<typeof messagesBody>;
