/** From OpenAI's inclusive token counts to the disjoint vector that prices multiply. */
import type { ChatUsage } from "../../sdk/protocol/chat.ts";
import type { UsageVector } from "../../sdk/protocol/usage.ts";

export type ReadUsage = {
  usage: UsageVector;
  /** The provider's numbers contradicted each other; parts were clamped to their whole. */
  inconsistent: boolean;
};

/**
 * A detail that the provider leaves out is absent from the vector, not zero. A part larger than its
 * whole is clamped, so that no token is billed twice and none is negative.
 *
 * Most providers count reasoning inside `completion_tokens`; some (xAI, 2026) beside it, which shows in
 * `total_tokens` being the sum of all three.
 */
export function readUsage(reported: ChatUsage): ReadUsage {
  const prompt = reported.prompt_tokens;
  const completion = reported.completion_tokens;
  const cached = reported.prompt_tokens_details?.cached_tokens ?? undefined;
  const written = reported.prompt_tokens_details?.cache_write_tokens ?? undefined;
  const reasoned = reported.completion_tokens_details?.reasoning_tokens ?? undefined;

  const cacheRead = clamp(cached, prompt);
  const cacheWrite = clamp(written, prompt - (cacheRead ?? 0));
  const besides =
    reasoned !== undefined &&
    reasoned > 0 &&
    reported.total_tokens === prompt + completion + reasoned;
  const reasoning = besides ? reasoned : clamp(reasoned, completion);

  const usage: UsageVector = { input: prompt - (cacheRead ?? 0) - (cacheWrite ?? 0) };
  if (cacheRead !== undefined) usage.cache_read = cacheRead;
  if (cacheWrite !== undefined) usage.cache_write = cacheWrite;
  usage.output = besides ? completion : completion - (reasoning ?? 0);
  if (reasoning !== undefined) usage.reasoning = reasoning;

  const total = besides ? prompt + completion + (reasoning ?? 0) : prompt + completion;
  const inconsistent =
    cacheRead !== cached ||
    cacheWrite !== written ||
    reasoning !== reasoned ||
    reported.total_tokens !== total;
  return { usage, inconsistent };
}

/** All tokens of a vector, as rate limits count them. */
export function totalTokens(usage: UsageVector): number {
  let total = 0;
  for (const count of Object.values(usage)) total += count;
  return total;
}

function clamp(part: number | undefined, whole: number): number | undefined {
  return part === undefined ? undefined : Math.min(Math.max(part, 0), whole);
}
