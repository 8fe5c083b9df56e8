/** Who has more of the engine than its share while several tenants run, and how much it then gets of a step. */
import type { Sequence } from "./sequence.ts";

export type Shares = {
  /**
   * Whether the tenant runs more sequences than the tenants that run would have each in equal parts, and was not
   * given much less than the others; or asks for several times as many as any of them.
   */
  isCrowding(tenant: string): boolean;
  /**
   * Whether it was given hardly more than whoever was given least. Who asks for several times as many as anybody else is
   * left out: it is held back because of that, and to have been given little is no reason to come first.
   */
  isBehind(tenant: string): boolean;
  /** Of so many places, how many it lacks to have as many as each of the others that run; none while it is alone. */
  lacks(tenant: string, places: number): number;
  /** Rows of a step that a crowding tenant gets: as many as the largest of the others. */
  rowsMax: number;
  /** Of the time that the others' rows and prompts take, how much crowding tenants may add to it: the less the more they are. */
  crowdShare: number;
};

/**
 * While one tenant runs alone, nobody crowds. What is told stays as it is, whatever the tenants are given from then on:
 * a sequence that was let in because its tenant did not crowd has tokens in its step.
 * @param servedNow tokens that a tenant was given, comparable among those that run
 * @param expected tenants that count as present although none of theirs may run
 * @param waiting  how many of each tenant wait to run
 */
export function sharesOf(
  running: readonly Pick<Sequence, "tenant">[],
  servedNow: (tenant: string) => number,
  { expected = [], waiting }: { expected?: Iterable<string>; waiting?: Map<string, number> } = {},
): Shares {
  const served = new Map<string, number>();
  const servedOf = (tenant: string) => {
    const known = served.get(tenant) ?? servedNow(tenant);
    served.set(tenant, known);
    return known;
  };
  const counts = new Map<string, number>();
  for (const tenant of expected) counts.set(tenant, 0);
  for (const { tenant } of running) counts.set(tenant, (counts.get(tenant) ?? 0) + 1);
  const share = running.length / Math.max(1, counts.size);
  let rowsMax = rowsMin;
  for (const count of counts.values()) if (count <= share) rowsMax = Math.max(rowsMax, count);
  const asked = new Map(counts);
  for (const [tenant, count] of waiting ?? []) asked.set(tenant, (asked.get(tenant) ?? 0) + count);
  const [most = 0, second = 0] = [...asked.values()].toSorted((a, b) => b - a);
  // A flood that had an equal part of all tokens would have it in bursts, in which everybody else stands still.
  const isFlood = (tenant: string) =>
    (asked.get(tenant) ?? 0) > floodTimes * Math.max(rowsMin, second);
  const others = (tenant: string) => [...counts.keys()].filter((other) => other !== tenant);
  const leastOf = (tenants: readonly string[]) => Math.min(...tenants.map(servedOf));
  return {
    isCrowding: (tenant) =>
      counts.size > 1 &&
      (isFlood(tenant) ||
        ((counts.get(tenant) ?? 0) > share &&
          servedOf(tenant) + slackTokens >= leastOf(others(tenant)))),
    isBehind: (tenant) =>
      servedOf(tenant) <= leastOf(others(tenant).filter((other) => !isFlood(other))) + slackTokens,
    lacks(tenant, places) {
      const own = counts.get(tenant) ?? 0;
      const tenants = counts.has(tenant) ? counts.size : counts.size + 1;
      return tenants === 1 ? 0 : Math.max(0, Math.ceil(places / tenants) - own);
    },
    rowsMax,
    crowdShare: Math.min(
      1,
      Math.max(1 / floodTimes, Math.max(rowsMin, second) / Math.max(1, most)),
    ),
  };
}

/**
 * Who was here a moment ago, asked or answered. Clients ask again when they are answered, and what they then wait
 * for first is the step under way: one in which a crowd that found itself alone has all its rows, and whole prompts,
 * takes as long as many of theirs.
 */
export class RecentTenants {
  /** When each was seen last; the one seen longest ago first. */
  readonly #seenMs = new Map<string, number>();
  #seenLast: string | undefined;

  see(tenant: string, nowMs: number): void {
    if (tenant !== this.#seenLast) this.#seenMs.delete(tenant);
    this.#seenMs.set(tenant, nowMs);
    this.#seenLast = tenant;
  }

  /** Forgets those who have stayed away. */
  at(nowMs: number): Iterable<string> {
    for (const [tenant, seenMs] of this.#seenMs) {
      if (nowMs - seenMs <= awayMsMax) break;
      this.#seenMs.delete(tenant);
    }
    return this.#seenMs.keys();
  }
}

export type StepBounds = {
  /** Whether the step of others may have rows of crowding tenants as well. */
  isOpenToCrowds: (others: number) => boolean;
  /** Sequences that decode in one step. */
  rowsMax: number;
  /** Whose end somebody waits for, so that it never waits itself. */
  isAwaited: (sequence: Sequence) => boolean;
};

/**
 * The sequences that decode in a step: all of those whose tenants keep to their shares, and of the others' the ones
 * that have waited longest for a step. A row costs time of every other, so a flood that had a row for each of its
 * requests would make each token of somebody else's single request several times as slow.
 */
export function withinShares(
  decoding: readonly Sequence[],
  { isCrowding, rowsMax: crowdRowsMax }: Shares,
  { rowsMax, isAwaited, isOpenToCrowds }: StepBounds,
): Sequence[] {
  if (decoding.length <= rowsMax && !decoding.some(({ tenant }) => isCrowding(tenant))) {
    return [...decoding];
  }
  const yields = (sequence: Sequence) => isCrowding(sequence.tenant) && !isAwaited(sequence);
  const left = new Map<string, number>();
  const chosen = new Set<Sequence>();
  /** Whoever yields comes behind all others. */
  let isOpen: boolean | undefined;
  const rank = (sequence: Sequence) => (isAwaited(sequence) ? 0 : yields(sequence) ? 2 : 1);
  const turns = decoding.toSorted((a, b) => rank(a) - rank(b) || a.steppedAt - b.steppedAt);
  for (const sequence of turns) {
    if (chosen.size === rowsMax) break;
    const { tenant } = sequence;
    if (yields(sequence)) {
      isOpen ??= isOpenToCrowds(chosen.size);
      if (!isOpen) break;
      const rows = left.get(tenant) ?? crowdRowsMax;
      if (rows === 0) continue;
      left.set(tenant, rows - 1);
    }
    chosen.add(sequence);
  }
  // In the order of their arrival, as ever.
  return decoding.filter((sequence) => chosen.has(sequence));
}

/** Tenants whose tokens differ by no more are level: else two that are would take turns at waiting. */
export const slackTokens = 512;
/** Some round trips of a client nearby, and a few small steps that a crowd is held back in vain. */
const awayMsMax = 100;
/** Whoever asks for that many times as many sequences as the largest of the others has a quarter of the time, and not half. */
const floodTimes = 3;
/** Two rows cost hardly more than one. */
const rowsMin = 2;
