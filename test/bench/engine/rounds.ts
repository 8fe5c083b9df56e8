/** Measures several things in turns, so that whatever disturbs the machine meets all of them alike. */
import { median } from "../report.ts";
import type { Contestant } from "./contestant.ts";

/** Something to measure; it returns a figure. `round` is -1 when it warms up. */
export type Entry<Name extends string> = { name: Name; measure(round: number): Promise<number> };

/**
 * Every entry once a round, in an order that turns from round to round.
 * @returns for each entry its figures, the warm-up's left out
 */
export async function takeTurns<Name extends string>(
  entries: readonly Entry<Name>[],
  rounds: number,
): Promise<Record<Name, number[]>> {
  const figures = Object.fromEntries(entries.map(({ name }) => [name, []])) as unknown as Record<
    Name,
    number[]
  >;
  for (const { measure } of entries) await measure(-1);
  for (let round = 0; round < rounds; round++) {
    for (const { name, measure } of round % 2 === 0 ? entries : entries.toReversed()) {
      await letOthersSleep();
      figures[name].push(await measure(round));
    }
  }
  return figures;
}

export type Comparison = {
  ours: number[];
  peer: number[];
  /** Which of the peers was the fastest. */
  peerName: string;
  /** What the peers did that were left behind, one line each. */
  notes: string[];
};

/**
 * Ours against the fastest of some peers; more is better. All warm up. Peers that are then far behind the
 * fastest are left out of the rounds, and so are those that fail; the others take part in all of them.
 */
export async function compare(
  ours: Contestant,
  peers: readonly Contestant[],
  {
    rounds,
    measure,
  }: { rounds: number; measure(contestant: Contestant, round: number): Promise<number> },
): Promise<Comparison> {
  const warm: { peer: Contestant; figure: number }[] = [];
  const broken: string[] = [];
  for (const peer of peers) {
    try {
      warm.push({ peer, figure: await measure(peer, -1) });
    } catch (error) {
      broken.push(`${peer.name} failed: ${error instanceof Error ? error.message : error}`);
    }
  }
  const best = Math.max(...warm.map(({ figure }) => figure));
  const kept = warm.filter(({ figure }) => figure >= nearEnough * best).map(({ peer }) => peer);
  const figures = await takeTurns(
    [ours, ...kept].map((contestant) => ({
      name: contestant.name,
      // The peers are warm.
      measure: async (round: number) =>
        round < 0 && contestant !== ours ? Number.NaN : measure(contestant, round),
    })),
    rounds,
  );
  const ranked = kept
    .map(({ name }) => ({ name, values: figures[name] ?? [] }))
    .sort((one, other) => median(other.values) - median(one.values));
  const [fastest] = ranked;
  return {
    ours: figures[ours.name] ?? [],
    peer: fastest?.values ?? [],
    peerName: fastest?.name ?? "none",
    notes: [
      ...broken,
      ...ranked.slice(1).map(({ name, values }) => `${name} ${median(values).toPrecision(3)}`),
      ...warm
        .filter(({ peer }) => !kept.includes(peer))
        .map(({ peer, figure }) => `${peer.name} ${figure.toPrecision(3)} in the warm-up`),
    ],
  };
}

/** Threads that wait in a loop for the next piece of work, as those of OpenMP do, give up after a while. */
function letOthersSleep(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 50));
}

/** Share of the fastest peer's warm-up figure. */
const nearEnough = 0.9;
