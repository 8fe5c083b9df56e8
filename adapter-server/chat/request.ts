/** A chat request, checked: what it asks for, in the engine's terms; what we cannot do is refused by name. */
import { z } from "zod";
import { type ChatMessage, chatRequest, messageText } from "../../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import type { TemplateMessage } from "../models/templates/chat-template.ts";
import { refuseUnsupported, refuseUnsupportedParts } from "./parameters.ts";

/** The weights that are to answer, as the client names them. */
type Target =
  | { type: "base" }
  | { type: "name"; name: string }
  | { type: "digest"; digest: Sha256 }
  | { type: "mix"; parts: { target: SingleTarget; weight: number }[] };
export type SingleTarget = Extract<Target, { type: "name" | "digest" }>;

export type ChatPlan = {
  /** As the client wrote it, for the answer. */
  model: string;
  target: Target;
  messages: TemplateMessage[];
  /** Absent: as much as fits. */
  maxTokens: number | undefined;
  choices: number;
  temperature: number | undefined;
  topP: number | undefined;
  topK: number | undefined;
  repetitionPenalty: number | undefined;
  seed: number | undefined;
  /** How many of the likeliest tokens to tell with each token; absent: no log-probabilities. */
  logprobs: number | undefined;
  stop: string[];
  ignoreEos: boolean;
  stream: boolean;
  includeUsage: boolean;
};

/**
 * @param baseId what clients call the base model
 * @throws HubError that names the field
 */
export function readChatRequest(
  body: unknown,
  { baseId, choicesMax, mixPartsMax }: { baseId: string; choicesMax: number; mixPartsMax: number },
): ChatPlan {
  const request = parseOrThrow(extendedRequest, body);
  refuseUnsupported(request, computed);
  const choices = request.n ?? 1;
  if (choices > choicesMax) throw outOfRange("n", choicesMax);
  if ((request.adapters?.length ?? 0) > mixPartsMax) throw outOfRange("adapters", mixPartsMax);
  return {
    model: request.model,
    target: readTarget(request, baseId),
    messages: request.messages.map(toTemplateMessage),
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    choices,
    temperature: request.temperature ?? undefined,
    topP: request.top_p ?? undefined,
    // vLLM writes "all" as -1 or 0.
    topK: request.top_k == null ? undefined : Math.max(0, request.top_k),
    repetitionPenalty: request.repetition_penalty ?? undefined,
    seed: request.seed ?? undefined,
    logprobs: readLogprobs(request),
    stop: [request.stop ?? []].flat(),
    ignoreEos: request.ignore_eos ?? false,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
  };
}

function readLogprobs({ logprobs, top_logprobs }: ExtendedRequest): number | undefined {
  if (logprobs) return top_logprobs ?? 0;
  if (!top_logprobs) return undefined;
  throw new HubError("invalid_value", "'top_logprobs' needs 'logprobs' to be true.", {
    param: "top_logprobs",
  });
}

function readTarget({ model, adapters }: ExtendedRequest, baseId: string): Target {
  if (!adapters) return model === baseId ? { type: "base" } : readSingle(model, baseId);
  if (model !== baseId) {
    throw new HubError(
      "invalid_value",
      `A mix of adapters goes over the base: set 'model' to '${baseId}'.`,
      {
        param: "model",
      },
    );
  }
  const parts = adapters.map((part) => ({
    target: readSingle(part.model, baseId),
    weight: part.weight,
  }));
  const names = new Set(adapters.map((part) => part.model));
  if (names.size < adapters.length) {
    throw new HubError(
      "invalid_value",
      "An adapter is named twice in the mix; add up its weights.",
      {
        param: "adapters",
      },
    );
  }
  return { type: "mix", parts };
}

/** `<base>@sha256-…` and `sha256-…` name weights; everything else is a name that was loaded. */
function readSingle(model: string, baseId: string): SingleTarget {
  const text = model.startsWith(`${baseId}@`) ? model.slice(baseId.length + 1) : model;
  const digest = sha256.safeParse(text.startsWith("sha256-") ? text.slice(7) : undefined);
  return digest.success ? { type: "digest", digest: digest.data } : { type: "name", name: model };
}

function toTemplateMessage(message: ChatMessage, index: number): TemplateMessage {
  refuseUnsupportedParts(message, index);
  const { role } = message;
  const text = messageText(message);
  if (text === undefined && role !== "assistant") {
    throw new HubError(
      "missing_required_parameter",
      `Missing required parameter: 'messages[${index}].content'.`,
      {
        param: `messages[${index}].content`,
      },
    );
  }
  // OpenAI renamed the role for newer models; templates know the old one.
  return { role: role === "developer" ? "system" : role, content: text ?? "" };
}

function outOfRange(param: string, max: number): HubError {
  return new HubError("number_out_of_range", `Invalid '${param}': expected at most ${max}.`, {
    param,
  });
}

const extendedRequest = chatRequest.extend({
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      // Padding against eavesdroppers, of no meaning behind a gateway.
      include_obfuscation: z.boolean().nullish(),
      continuous_usage_stats: z.literal(false).nullish(),
    })
    .nullish(),
  seed: z.int().nullish(),
  /** A weighted sum of adapters over the base, instead of one. */
  adapters: z
    .array(
      z.strictObject({
        model: z.string().min(1).max(512),
        weight: z.number().min(-16).max(16).default(1),
      }),
    )
    .min(1)
    .nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  /** As vLLM has it: draw from this many of the likeliest tokens. */
  top_k: z.int().min(-1).nullish(),
  /** As vLLM has it: makes what was said already less likely. */
  repetition_penalty: z.number().min(0.01).max(100).nullish(),
  /** As vLLM has it: decode on past the end of the answer, for measuring. */
  ignore_eos: z.boolean().nullish(),
});
const computed: ReadonlySet<string> = new Set(Object.keys(extendedRequest.shape));
type ExtendedRequest = z.infer<typeof extendedRequest>;
