/** What one request consumed, as one vector of disjoint counts that prices multiply. */
import { z } from "zod";

/**
 * Meters are disjoint: an input token is counted in exactly one of the three input meters, an output
 * token in `output` or `reasoning`. A meter that was not reported is absent, which is not zero.
 */
export const meters = ["input", "cache_read", "cache_write", "output", "reasoning"] as const;
export const meter = z.enum(meters);
export type Meter = z.infer<typeof meter>;

export const usageVector = z.partialRecord(meter, z.int().nonnegative());
export type UsageVector = z.infer<typeof usageVector>;
