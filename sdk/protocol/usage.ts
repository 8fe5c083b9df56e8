/** What one request consumed, as one vector of disjoint counts that prices multiply. */
import { z } from "zod";

/**
 * Tokens, each counted once: an input token in one of the input meters, an output token in one of the output meters.
 * Those without a kind in their name are text, or everything where a provider tells no kinds apart.
 */
export const tokenMeters = [
  "input",
  "cache_read",
  "cache_write",
  "output",
  "reasoning",
  "input_audio",
  "input_image",
  "cache_read_audio",
  "cache_read_image",
  "output_audio",
  "output_image",
] as const;

/**
 * What some providers bill in place of tokens: images that were made, milliseconds of audio that were heard, characters
 * that were spoken. Known beside tokens or without them; one of the two is billed.
 */
export const unitMeters = ["images", "audio_ms", "characters"] as const;

/** A meter that was not reported is absent, which is not zero. */
export const meters = [...tokenMeters, ...unitMeters] as const;
export const meter = z.enum(meters);
export type Meter = z.infer<typeof meter>;
export type TokenMeter = (typeof tokenMeters)[number];
export type UnitMeter = (typeof unitMeters)[number];

export const usageVector = z.partialRecord(meter, z.int().nonnegative());
export type UsageVector = z.infer<typeof usageVector>;

/** Meters whose tokens are interchangeable when only the most that they may cost is asked for. */
export const inputMeters = [
  "input",
  "cache_read",
  "cache_write",
  "input_audio",
  "input_image",
  "cache_read_audio",
  "cache_read_image",
] as const satisfies readonly TokenMeter[];
export const outputMeters = [
  "output",
  "reasoning",
  "output_audio",
  "output_image",
] as const satisfies readonly TokenMeter[];

/** How people quote a meter's price: dollars for so many of what it counts, and what that many are called. */
export function quotedAs(meter: Meter): { per: bigint; unit: string } {
  switch (meter) {
    case "images":
      return { per: 1n, unit: "image" };
    case "audio_ms":
      return { per: 1000n, unit: "second" };
    case "characters":
      return { per: 1_000_000n, unit: "million characters" };
    default:
      return { per: 1_000_000n, unit: "million tokens" };
  }
}
