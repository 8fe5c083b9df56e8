/** Reads a whole answer: that it is one, and what it used. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type ReadUsage, readUsage } from "../../ledger/usage.ts";
import type { PassingAnswer } from "../format.ts";
import { readGeminiErrorBody } from "./errors.ts";
import {
  type GeminiAnswer,
  type GeminiPart,
  geminiAnswer,
  geminiUsage,
  tokenCount,
} from "./schema.ts";

/** @throws HubError `upstream_error` */
export function readGeminiAnswer(bytes: Uint8Array): PassingAnswer {
  const { usageMetadata, candidates } = parseGeminiAnswer(bytes);
  const text = {
    toString: () =>
      (candidates ?? []).flatMap(({ content }) => (content?.parts ?? []).map(partText)).join(""),
  };
  return { usage: readGeminiUsage(usageMetadata), text };
}

/** @throws HubError `upstream_error` */
export function parseGeminiAnswer(bytes: Uint8Array): GeminiAnswer {
  const json = parseJson(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
  const answer = geminiAnswer.safeParse(json);
  if (answer.success) return answer.data;
  const told = readGeminiErrorBody(json)?.message;
  throw new HubError(
    "upstream_error",
    told === undefined
      ? "The upstream's answer is none of Gemini's."
      : `The upstream answered with an error: ${told}`,
    {
      unquoted: `The upstream's answer is ${told === undefined ? "none of Gemini's" : "an error"}.`,
    },
  );
}

/** `undefined` when the prompt's count is not told. Google leaves out what is zero. */
export function readGeminiUsage(reported: unknown): ReadUsage | undefined {
  const parsed = geminiUsage.safeParse(reported);
  if (!parsed.success) return undefined;
  const { promptTokenCount, cachedContentTokenCount, thoughtsTokenCount } = parsed.data;
  const prompt_tokens = promptTokenCount + (parsed.data.toolUsePromptTokenCount ?? 0);
  const completion_tokens = (parsed.data.candidatesTokenCount ?? 0) + (thoughtsTokenCount ?? 0);
  return readUsage({
    prompt_tokens,
    completion_tokens,
    total_tokens: parsed.data.totalTokenCount ?? prompt_tokens + completion_tokens,
    ...(cachedContentTokenCount != null && {
      prompt_tokens_details: { cached_tokens: cachedContentTokenCount },
    }),
    ...(thoughtsTokenCount != null && {
      completion_tokens_details: { reasoning_tokens: thoughtsTokenCount },
    }),
  });
}

/** @throws HubError `upstream_error` when it is no count */
export function readTotalTokens(bytes: Uint8Array): number {
  const counted = tokenCount.safeParse(parseJson(Buffer.from(bytes).toString()));
  if (counted.success) return counted.data.totalTokens;
  throw new HubError("upstream_error", "The upstream's answer is no count of tokens.");
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function partText({ text, functionCall }: GeminiPart): string {
  if (functionCall) return JSON.stringify(functionCall.args ?? {});
  return text ?? "";
}
