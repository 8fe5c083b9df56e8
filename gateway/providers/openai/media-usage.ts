/** What OpenAI tells of images and audio that were used: tokens by kind, or seconds. */
import { z } from "zod";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import { type ReadUsage, splitInput, splitOutput } from "../../ledger/usage.ts";

/** What tokens are whose kind is not told. */
export type UntoldKinds = { input: "text" | "audio"; output: "text" | "audio" | "image" };

/**
 * Usage as the endpoints for media tell it, some with `input_token_details`, some with `input_tokens_details`.
 * @returns undefined when there is none, or none of the tokens that must have been used: unknown, and not zero
 */
export function readMediaUsage(reported: unknown, untold: UntoldKinds): ReadUsage | undefined {
  const seconds = durationUsage.safeParse(reported);
  if (seconds.success) {
    const audio_ms = Math.ceil(seconds.data.seconds * 1000);
    return audio_ms > 0 ? { usage: { audio_ms }, inconsistent: false } : undefined;
  }
  const parsed = tokenUsage.safeParse(reported);
  if (!parsed.success) return undefined;
  const { input_tokens, output_tokens, total_tokens } = parsed.data;
  if (input_tokens + output_tokens === 0) return undefined;
  const inputs = parsed.data.input_token_details ?? parsed.data.input_tokens_details;
  const outputs = parsed.data.output_token_details ?? parsed.data.output_tokens_details;
  const input = splitInput(input_tokens, {
    audio: inputs?.audio_tokens ?? (!inputs && untold.input === "audio" ? input_tokens : 0),
    image: inputs?.image_tokens ?? 0,
    cached: inputs?.cached_tokens ?? undefined,
    cachedAudio: inputs?.cached_tokens_details?.audio_tokens ?? undefined,
    cachedImage: inputs?.cached_tokens_details?.image_tokens ?? undefined,
  });
  const whole = (kind: UntoldKinds["output"]) =>
    !outputs && untold.output === kind ? output_tokens : 0;
  const output = splitOutput(output_tokens, {
    audio: outputs?.audio_tokens ?? whole("audio"),
    image: outputs?.image_tokens ?? whole("image"),
    reasoning: outputs?.reasoning_tokens ?? undefined,
  });
  return {
    usage: withoutZeros({ ...input.usage, ...output.usage }),
    inconsistent:
      input.inconsistent ||
      output.inconsistent ||
      (total_tokens != null && total_tokens !== input_tokens + output_tokens),
  };
}

/** Two parts of one request. */
export function addUsage(
  a: ReadUsage | undefined,
  b: ReadUsage | undefined,
): ReadUsage | undefined {
  if (!a || !b) return a ?? b;
  const usage: UsageVector = { ...a.usage };
  for (const [meter, count] of Object.entries(b.usage) as [keyof UsageVector, number][]) {
    usage[meter] = (usage[meter] ?? 0) + count;
  }
  return { usage, inconsistent: a.inconsistent || b.inconsistent };
}

/** Text of which there is none needs no price: an image model may have none for text. */
function withoutZeros(usage: UsageVector): UsageVector {
  return Object.fromEntries(Object.entries(usage).filter(([, count]) => count > 0));
}

const count = z.int().nonnegative().nullish().catch(undefined);
const kinds = z
  .object({
    audio_tokens: count,
    image_tokens: count,
    cached_tokens: count,
    reasoning_tokens: count,
    cached_tokens_details: z
      .object({ audio_tokens: count, image_tokens: count })
      .nullish()
      .catch(undefined),
  })
  .nullish()
  .catch(undefined);
const tokenUsage = z.object({
  input_tokens: z.int().nonnegative(),
  output_tokens: z
    .int()
    .nonnegative()
    .nullish()
    .transform((tokens) => tokens ?? 0),
  total_tokens: count,
  input_token_details: kinds,
  input_tokens_details: kinds,
  output_token_details: kinds,
  output_tokens_details: kinds,
});
/** Beyond a year something else is meant. */
const durationUsage = z.object({
  type: z.literal("duration"),
  seconds: z.number().nonnegative().max(31_536_000),
});
