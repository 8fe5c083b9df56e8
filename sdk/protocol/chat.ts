/** `POST /v1/chat/completions`: the request as clients may send it, the answer and its stream as we send it. */
import { z } from "zod";

const textPart = z.looseObject({ type: z.literal("text"), text: z.string() });
const contentPart = z.union([textPart, z.looseObject({ type: z.string() })]);
const content = z.union([z.string(), z.array(contentPart)]);

/** What may stand in place of an assistant's content. */
const besidesContent = [
  "tool_calls",
  "function_call",
  "audio",
  "refusal",
  "reasoning_content",
  "reasoning",
];

/** Every role may send a string or parts; an assistant that called tools may send no content. */
export const chatMessage = z
  .looseObject({
    role: z.enum(["developer", "system", "user", "assistant", "tool", "function"]),
    content: content.nullish(),
    name: z.string().nullish(),
  })
  .superRefine((message, context) => {
    if (message.content != null) return;
    if (message.role === "assistant" && besidesContent.some((field) => message[field] != null))
      return;
    const where = { path: ["content"], input: message.content };
    context.addIssue(
      message.content === undefined
        ? { ...where, code: "invalid_type", expected: "string" }
        : {
            ...where,
            code: "custom",
            message: "expected a string or parts; only who calls may say nothing",
          },
    );
  });
export type ChatMessage = z.infer<typeof chatMessage>;

/**
 * The fields that Switchyard reads, checked; all others survive untouched, because a provider behind
 * the gateway may want them. `null` means the default, as at OpenAI.
 */
export const chatRequest = z.looseObject({
  model: z.string().min(1).max(512),
  messages: z.array(chatMessage).min(1).max(10_000),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  max_tokens: z
    .int()
    .min(1)
    .max(1 << 24)
    .nullish(),
  max_completion_tokens: z
    .int()
    .min(1)
    .max(1 << 24)
    .nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(4)]).nullish(),
  seed: z.number().nullish(),
  n: z.int().min(1).max(128).nullish(),
  user: z.string().max(512).nullish(),
  metadata: z.record(z.string().max(64), z.string().max(512)).nullish(),
});
export type ChatRequest = z.infer<typeof chatRequest>;

/** OpenAI's inclusive counts: `prompt_tokens` contains the cached, `completion_tokens` the reasoning. */
export const chatUsage = z.looseObject({
  prompt_tokens: z.int().nonnegative(),
  completion_tokens: z.int().nonnegative(),
  total_tokens: z.int().nonnegative(),
  prompt_tokens_details: z
    .looseObject({
      cached_tokens: z.int().nullish(),
      cache_write_tokens: z.int().nullish(),
      audio_tokens: z.int().nullish(),
    })
    .nullish(),
  completion_tokens_details: z
    .looseObject({ reasoning_tokens: z.int().nullish(), audio_tokens: z.int().nullish() })
    .nullish(),
});
export type ChatUsage = z.infer<typeof chatUsage>;

export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter" | "function_call";

/** How likely a token was: a number, or -9999 for the least likely. */
export type TokenLogprob = {
  token: string;
  logprob: number;
  /** UTF-8, exact where a token is part of a character. */
  bytes: number[];
};

/** A token of the answer, and the likeliest ones in its place. */
export type ContentLogprob = TokenLogprob & { top_logprobs: TokenLogprob[] };
export type ChatLogprobs = { content: ContentLogprob[]; refusal: null };

/** A function that the model wants called; its arguments are the text of a JSON object. */
export type ToolCall = {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
};

/** What our own engine answers; the required keys of OpenAI's schema are all there. */
export type ChatCompletion = {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: {
    index: number;
    message: {
      role: "assistant";
      content: string | null;
      refusal: null;
      /** Absent where nothing is called. */
      tool_calls?: ToolCall[];
    };
    logprobs: ChatLogprobs | null;
    finish_reason: FinishReason;
    /** vLLM's: the request's own stop string or token that ended the answer; null where something else did. */
    stop_reason?: number | string | null;
    /** vLLM's, where `return_token_ids` asks for it: all that the model said, the end included. */
    token_ids?: readonly number[];
  }[];
  usage: ChatUsage;
  system_fingerprint: string;
  /** vLLM's, where they were asked for. */
  prompt_logprobs?: PromptLogprobEntry[];
  prompt_token_ids?: readonly number[];
};

/** As vLLM tells of each token of a prompt: itself and the likeliest, by their ids; nothing of the first one. */
export type PromptLogprobEntry = Record<
  string,
  { logprob: number; rank: number; decoded_token: string }
> | null;

export type ChatCompletionChunk = {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: {
      role?: "assistant";
      content?: string;
      refusal?: null;
      /** A call's first delta has its id, type and name, later ones more of its arguments. */
      tool_calls?: (Pick<ToolCall, "function"> & Partial<ToolCall> & { index: number })[];
    };
    logprobs: ChatLogprobs | null;
    finish_reason: FinishReason | null;
    /** With the finish. */
    stop_reason?: number | string | null;
    /** Those that came since the choice's last chunk. */
    token_ids?: readonly number[];
  }[];
  /** Null on every chunk but the last when the client asked for usage; absent when it did not. */
  usage?: ChatUsage | null;
  system_fingerprint: string;
  /** On each choice's first chunk, where `return_token_ids` asks for it. */
  prompt_token_ids?: readonly number[];
};

/** `GET /v1/models`: OpenAI's fields; an adapter also names its base (`parent`) and digest (`root`). */
export type ModelCard = {
  id: string;
  object: "model";
  created: number;
  owned_by: string;
  parent?: string;
  root?: string;
};

/** The text of a message, its text parts joined; `undefined` when it has none. */
export function messageText(message: ChatMessage): string | undefined {
  if (typeof message.content === "string") return message.content;
  if (!message.content) return undefined;
  const texts = message.content.flatMap((part) =>
    part.type === "text" && "text" in part && typeof part.text === "string" ? [part.text] : [],
  );
  return texts.length === 0 ? undefined : texts.join("");
}
