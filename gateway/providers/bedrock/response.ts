/** Reads a whole answer: that it is one, and what it used. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import type { PassingAnswer } from "../format.ts";
import { type BedrockBlock, bedrockUsage, type ConverseAnswer, converseAnswer } from "./schema.ts";

/** @throws HubError `upstream_error` */
export function readConverseAnswer(bytes: Uint8Array): PassingAnswer {
  const { output, usage } = parseConverseAnswer(bytes);
  const text = { toString: () => output.message.content.map(blockText).join("") };
  return { usage: readBedrockUsage(usage), text };
}

/** @throws HubError `upstream_error` */
export function parseConverseAnswer(bytes: Uint8Array): ConverseAnswer {
  const answer = converseAnswer.safeParse(parseJson(bytes));
  if (answer.success) return answer.data;
  throw new HubError("upstream_error", "The upstream's answer is none of Bedrock's Converse.");
}

/** `undefined` when a sum is not told: unknown, and not zero. */
export function readBedrockUsage(reported: unknown): ReadUsage | undefined {
  const parsed = bedrockUsage.safeParse(reported);
  if (!parsed.success) return undefined;
  const { inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens } = parsed.data;
  const usage: UsageVector = { input: inputTokens };
  if (cacheReadInputTokens != null) usage.cache_read = cacheReadInputTokens;
  if (cacheWriteInputTokens != null) usage.cache_write = cacheWriteInputTokens;
  usage.output = outputTokens;
  return { usage, inconsistent: false };
}

export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
  } catch {
    return undefined;
  }
}

function blockText({ text, toolUse, reasoningContent, citationsContent }: BedrockBlock): string {
  if (toolUse) return JSON.stringify(toolUse.input ?? {});
  if (reasoningContent) return reasoningContent.reasoningText?.text ?? "";
  if (citationsContent) return (citationsContent.content ?? []).map((one) => one.text).join("");
  return text ?? "";
}
