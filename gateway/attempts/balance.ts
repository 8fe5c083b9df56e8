/** Which of several deployments that are equally good a call goes to. */
import { hash } from "node:crypto";

export const balances = ["weighted", "least-busy", "peak-ewma"] as const;
export type Balance = (typeof balances)[number];

/** What choosing looks at. */
export type Balanced = {
  readonly name: string;
  readonly weight: number;
  /** Calls under way. */
  readonly inFlight: number;
  /** Expected milliseconds to a first byte; `undefined` before the first call. */
  readonly latencyMs: number | undefined;
};

/**
 * `weighted` draws by weight; `least-busy` takes the fewest calls under way for its weight; `peak-ewma` draws two and
 * takes the one whose next call is expected to wait less.
 * @param random uniform in [0, 1)
 * @see The Power of Two Choices in Randomized Load Balancing, Mitzenmacher 2001; Finagle's Peak EWMA
 */
export function choose<D extends Balanced>(
  among: readonly D[],
  balance: Balance,
  random: () => number,
): D | undefined {
  if (among.length < 2) return among[0];
  switch (balance) {
    case "weighted":
      return draw(among, random);
    case "least-busy": {
      const least = Math.min(...among.map(busyness));
      return draw(
        among.filter((it) => busyness(it) === least),
        random,
      );
    }
    case "peak-ewma": {
      const first = draw(among, random);
      const second = draw(
        among.filter((it) => it !== first),
        random,
      );
      return first && second && expectedWait(second) < expectedWait(first) ? second : first;
    }
    default:
      return balance satisfies never;
  }
}

/**
 * The same deployment for the same key, as long as it is there and has no more than its share of the load; else the
 * key's next. When one goes, only its own keys move.
 * @see Thaler and Ravishankar 1998 (rendezvous hashing); Consistent Hashing with Bounded Loads, arXiv:1608.01350
 */
export function chooseByKey<D extends Balanced>(among: readonly D[], key: string): D | undefined {
  const load = 1 + among.reduce((sum, { inFlight }) => sum + inFlight, 0);
  const weights = among.reduce((sum, { weight }) => sum + weight, 0);
  return among
    .map((it) => ({ it, score: scoreOf(it, key) }))
    .sort((a, b) => b.score - a.score)
    .find(({ it }) => it.inFlight < Math.ceil((overload * load * it.weight) / weights))?.it;
}

function draw<D extends Balanced>(among: readonly D[], random: () => number): D | undefined {
  let left = random() * among.reduce((sum, { weight }) => sum + weight, 0);
  for (const it of among) {
    left -= it.weight;
    if (left < 0) return it;
  }
  return among.at(-1);
}

function busyness({ inFlight, weight }: Balanced): number {
  return inFlight / weight;
}

/** Nobody knows how quick one is that was never asked: it gets a call, and no second before the first is back. */
function expectedWait({ latencyMs, inFlight, weight }: Balanced): number {
  if (latencyMs === undefined) return inFlight === 0 ? 0 : Number.POSITIVE_INFINITY;
  return (latencyMs * (inFlight + 1)) / weight;
}

/** Weighted rendezvous: the larger of `weight / -ln(u)` wins in proportion to the weights. */
function scoreOf({ name, weight }: Balanced, key: string): number {
  const bits = Number.parseInt(hash("sha256", `${name}\0${key}`).slice(0, 12), 16);
  return weight / -Math.log((bits + 0.5) / 2 ** 48);
}

/** Above its share by a quarter, a deployment sends its keys on. */
const overload = 1.25;
