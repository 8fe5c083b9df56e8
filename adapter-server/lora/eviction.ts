/** How much it would cost to have dropped an adapter: what a tier that is full compares. */

/** Kept for each adapter in a tier. A clock counts the tier's uses, so that the same uses give the same victims. */
export type Uses = {
  /** Uses so far, each worth half after `halfLife` further ones of the tier. */
  count: number;
  /** The clock at the last use. */
  at: number;
};

export function firstUse(clock: number): Uses {
  return { count: 1, at: clock };
}

export function use({ count, at }: Uses, clock: number): Uses {
  return { count: faded(count, clock - at) + 1, at: clock };
}

/**
 * Frequency times the cost of loading it again, over the age of its last use; the least worth goes first.
 * @param cost in any unit, the same for all of a tier
 * @see Cao and Irani, GreedyDual-Size (USITS 1997), for weighing cost against use
 */
export function worthOf(
  { count, at }: Uses,
  { clock, cost }: { clock: number; cost: number },
): number {
  const age = clock - at;
  return (faded(count, age) * cost) / (age + 1);
}

function faded(count: number, uses: number): number {
  return count * 0.5 ** (uses / halfLife);
}

/** An adapter that was in demand an hour ago must not outlive those in demand now. */
const halfLife = 256;
