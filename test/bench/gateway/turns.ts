/** Sides that take turns at the same load: how many requests a second, and how much of a processor each takes. */
import type { LoadOrder, LoadReport } from "./programs/load.ts";
import type { Setting } from "./setting.ts";

export type Turn = LoadReport & {
  /** As they came, with whatever else ran on the machine. */
  perSecond: number;
  /** What one core would answer that did nothing else: of the processor time that the side's processes used. */
  perCoreSecond: number;
};

export type TurnSide<Name extends string> = {
  name: Name;
  order: Omit<LoadOrder, "type" | "concurrency" | "seconds">;
  processorMs(): number;
};

/** @returns by side what each round found; one round before them warms up and is not told */
export async function takeTurns<Name extends string>(
  setting: Pick<Setting, "load" | "tell" | "full">,
  sides: readonly TurnSide<Name>[],
  { rounds, seconds, concurrency }: { rounds: number; seconds: number; concurrency: number },
): Promise<Map<Name, Turn[]>> {
  const turns = new Map(sides.map(({ name }): [Name, Turn[]] => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    setting.tell(round === 0 ? "warming up" : `round ${round} of ${rounds}`);
    for (const { name, order, processorMs } of round % 2 === 0 ? sides : sides.toReversed()) {
      const before = processorMs();
      const report = await setting.load({ ...order, concurrency, seconds });
      const usedMs = processorMs() - before;
      if (round === 0) continue;
      const { answered, elapsedMs } = report;
      turns.get(name)?.push({
        ...report,
        perSecond: (1000 * answered) / elapsedMs,
        perCoreSecond: (1000 * answered) / usedMs,
      });
    }
  }
  return turns;
}

/** As many as keep a gateway busy all the time. */
export const crowd = 32;
