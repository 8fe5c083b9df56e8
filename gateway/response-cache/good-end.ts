/** Whether an answer, as it went out in whatever dialect, says all that its model had to say. */

/**
 * Looks for what each dialect tells beside the text: why the model stopped, and that it refused. Quotes within a text
 * are escaped in it, so a text that speaks of such things is not taken for them; where it were, an answer would only
 * not be kept.
 */
export function cameToGoodEnd(body: Uint8Array): boolean {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("latin1");
  if (badEnd.test(text)) return false;
  for (const [, reason = ""] of text.matchAll(reasons)) {
    if (!good.has(reason.toLowerCase())) return false;
  }
  return true;
}

const reasons = /"(?:finish_reason|stop_reason|stopReason|finishReason)"\s*:\s*"([^"]*)"/g;
const good: ReadonlySet<string> = new Set(["stop", "end_turn", "stop_sequence"]);

/** Refusals, blocked prompts, answers that broke off or failed, and calls of tools. */
const badEnd = new RegExp(
  [
    String.raw`"refusal"\s*:\s*"`,
    String.raw`"type"\s*:\s*"(?:refusal|error|function_call|tool_use|response\.(?:failed|incomplete|refusal\.\w+))"`,
    String.raw`"blockReason"\s*:`,
    String.raw`"incomplete_details"\s*:\s*\{`,
    String.raw`"(?:tool_calls|function_call)"\s*:\s*[[{]\s*[^\]\s}]`,
    String.raw`"(?:functionCall|toolUse)"\s*:`,
    String.raw`"error"\s*:\s*\{`,
  ].join("|"),
);
