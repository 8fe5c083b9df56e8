/** From OpenAI's inclusive token counts to the disjoint vector that prices multiply. */
import type { ChatUsage } from "../../sdk/protocol/chat.ts";
import { tokenMeters, type UsageVector } from "../../sdk/protocol/usage.ts";

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
  const inputDetails = reported.prompt_tokens_details;
  const outputDetails = reported.completion_tokens_details;
  const reasoned = outputDetails?.reasoning_tokens ?? undefined;
  const besides =
    reasoned !== undefined &&
    reasoned > 0 &&
    reported.total_tokens === prompt + completion + reasoned;

  const input = splitInput(prompt, {
    audio: inputDetails?.audio_tokens ?? 0,
    // A chat's images are billed as text is, by all who tell how many tokens they were.
    image: 0,
    cached: inputDetails?.cached_tokens ?? undefined,
    written: inputDetails?.cache_write_tokens ?? undefined,
  });
  const output = splitOutput(besides ? completion + reasoned : completion, {
    audio: outputDetails?.audio_tokens ?? 0,
    image: 0,
    reasoning: reasoned,
  });
  const total = besides ? prompt + completion + reasoned : prompt + completion;
  return {
    usage: { ...input.usage, ...output.usage },
    inconsistent: input.inconsistent || output.inconsistent || reported.total_tokens !== total,
  };
}

export type InputParts = {
  audio: number;
  image: number;
  /** Read from a cache, of all kinds; absent when it was not told. */
  cached: number | undefined;
  /** How many of the cached were audio and images; those not told are text as far as there is any. */
  cachedAudio?: number | undefined;
  cachedImage?: number | undefined;
  written?: number | undefined;
};

/** Inclusive counts of an input, as disjoint meters. Kinds of which there is nothing are left out, text is not. */
export function splitInput(whole: number, parts: InputParts): ReadUsage {
  const audio = clamp(parts.audio, whole);
  const image = clamp(parts.image, whole - audio);
  const text = whole - audio - image;
  const cached = clamp(parts.cached ?? 0, whole);
  const toldAudio = clamp(parts.cachedAudio ?? 0, Math.min(audio, cached));
  const toldImage = clamp(parts.cachedImage ?? 0, Math.min(image, cached - toldAudio));
  const cachedText = Math.min(cached - toldAudio - toldImage, text);
  const untold = cached - toldAudio - toldImage - cachedText;
  const cachedAudio = Math.min(audio, toldAudio + untold);
  const cachedImage = cached - cachedText - cachedAudio;
  const written = clamp(parts.written ?? 0, text - cachedText);

  const usage: UsageVector = { input: text - cachedText - written };
  if (parts.cached !== undefined) usage.cache_read = cachedText;
  if (parts.written !== undefined) usage.cache_write = written;
  if (audio > cachedAudio) usage.input_audio = audio - cachedAudio;
  if (image > cachedImage) usage.input_image = image - cachedImage;
  if (cachedAudio > 0) usage.cache_read_audio = cachedAudio;
  if (cachedImage > 0) usage.cache_read_image = cachedImage;
  const inconsistent =
    audio !== parts.audio ||
    image !== parts.image ||
    cached !== (parts.cached ?? 0) ||
    written !== (parts.written ?? 0);
  return { usage, inconsistent };
}

export type OutputParts = { audio: number; image: number; reasoning: number | undefined };

/** As `splitInput`, for an output. */
export function splitOutput(whole: number, parts: OutputParts): ReadUsage {
  const audio = clamp(parts.audio, whole);
  const image = clamp(parts.image, whole - audio);
  const reasoning = clamp(parts.reasoning ?? 0, whole - audio - image);
  const usage: UsageVector = { output: whole - audio - image - reasoning };
  if (parts.reasoning !== undefined) usage.reasoning = reasoning;
  if (audio > 0) usage.output_audio = audio;
  if (image > 0) usage.output_image = image;
  const inconsistent =
    audio !== parts.audio || image !== parts.image || reasoning !== (parts.reasoning ?? 0);
  return { usage, inconsistent };
}

/** All tokens of a vector, as rate limits count them; `undefined` where only other units are known. */
export function totalTokens(usage: UsageVector): number | undefined {
  let total: number | undefined;
  for (const meter of tokenMeters) {
    const count = usage[meter];
    if (count !== undefined) total = (total ?? 0) + count;
  }
  return total;
}

function clamp(part: number, whole: number): number {
  return Math.min(Math.max(part, 0), whole);
}
