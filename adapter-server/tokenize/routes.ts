/** vLLM's `/tokenize` and `/detokenize`: what a text or a chat is to the model, and what tokens are as text. */
import { z } from "zod";
import { chatRequest } from "../../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { toPrompt } from "../chat/complete.ts";
import { readRendering, renderingFields, toTemplateMessages } from "../chat/request.ts";
import { refuseUnknownTokens } from "../generation/sampling.ts";
import { refuseUnsupported } from "../generation/unsupported.ts";
import { type AppParts, contextLengthOf, noSuchModel } from "../parts.ts";

export type Tokenized = {
  count: number;
  max_model_len: number;
  tokens: number[];
  /** As the vocabulary writes them; null when nobody asked. */
  token_strs: string[] | null;
};

/** @throws HubError that names the field */
export function tokenize(parts: AppParts, body: unknown): Tokenized {
  const request = parseOrThrow(tokenizeRequest, body);
  refuseUnsupported(request, new Set(Object.keys(tokenizeRequest.shape)));
  refuseUnknownModel(parts, request.model);
  const tokens = tokensOf(parts, request);
  const { tokenizer } = parts.model;
  return {
    count: tokens.length,
    max_model_len: contextLengthOf(parts.engine),
    tokens,
    token_strs: request.return_token_strs ? tokens.map((token) => tokenizer.wordOf(token)) : null,
  };
}

/**
 * Control tokens are shown.
 * @throws HubError that names the field
 */
export function detokenize(parts: AppParts, body: unknown): { prompt: string } {
  const request = parseOrThrow(detokenizeRequest, body);
  refuseUnsupported(request, new Set(Object.keys(detokenizeRequest.shape)));
  refuseUnknownModel(parts, request.model);
  refuseUnknownTokens(request.tokens, parts.engine.facts.dims.vocabSize, "tokens");
  return { prompt: parts.model.tokenizer.decode(request.tokens, { skipSpecialTokens: false }) };
}

/** A text as it is, control tokens included, or messages as the chat template writes them. */
function tokensOf({ model }: AppParts, request: TokenizeRequest): number[] {
  const { prompt, messages, add_special_tokens } = request;
  if (messages && prompt == null) {
    if (add_special_tokens) {
      throw new HubError(
        "unsupported_parameter",
        "Unsupported parameter: 'add_special_tokens' is false for messages, because chat templates write such tokens.",
        { param: "add_special_tokens" },
      );
    }
    const rendering = readRendering(request);
    return toPrompt(model, {
      messages: toTemplateMessages(messages, { knowsTools: model.toolFormat !== undefined }),
      rendering,
    });
  }
  if (prompt == null || messages) {
    throw new HubError(
      "missing_required_parameter",
      "Missing required parameter: 'prompt' or 'messages', and not both.",
      { param: "prompt" },
    );
  }
  return model.tokenizer.encode(prompt, { addSpecialTokens: add_special_tokens ?? true });
}

/** All adapters share the base's tokenizer. */
function refuseUnknownModel({ model, adapters }: AppParts, name: string | null | undefined): void {
  if (name != null && name !== model.id && !adapters.named(name)) throw noSuchModel(name);
}

const modelName = chatRequest.shape.model.nullish();

const tokenizeRequest = z.looseObject({
  ...renderingFields,
  model: modelName,
  prompt: z.string().nullish(),
  messages: chatRequest.shape.messages.nullish(),
  /** Absent is true for a text. */
  add_special_tokens: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});
type TokenizeRequest = z.infer<typeof tokenizeRequest>;

const detokenizeRequest = z.looseObject({
  model: modelName,
  tokens: z.array(z.int().nonnegative()),
});
