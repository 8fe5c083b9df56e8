/** Requests a second of 32 clients, and what one request at a time takes longer than at the upstream itself. */
import { boundedResult, type Result, resultOf } from "../../engine/result.ts";
import { median, quantile, round } from "../../report.ts";
import { openSides, type SideName } from "../sides.ts";
import { crowd, type Turn, takeTurns } from "../turns.ts";
import type { Lane } from "./table.ts";

/** What each peer's requests a second have to be exceeded by. */
const targets: Record<SideName, number | null> = {
  direct: null,
  "bare Hono proxy": 0.75,
  Switchyard: null,
  "Switchyard, no limits": null,
  Portkey: 4.5,
  LiteLLM: 20,
};
const perCoreSecondMin = 3000;
/** The upstream's own, against ours: what is slower than that would be measured too. */
const upstreamTimesMin = 10;
const addedMsMax = { p50: 0.6, p99: 1 };

export const rate: Lane = async function* (setting) {
  const { sides, close } = await openSides(setting);
  try {
    const turns = await takeTurns(
      setting,
      sides.map(({ name, asked, processorMs }) => ({ name, order: { asked }, processorMs })),
      { rounds: setting.full(5, 1), seconds: setting.full(3, 0.5), concurrency: crowd },
    );
    const of = (name: SideName, what: "perSecond" | "perCoreSecond") =>
      (turns.get(name) ?? []).map((turn) => turn[what]);
    const ours = of("Switchyard", "perCoreSecond");
    const asked = ours.map(() => perCoreSecondMin);
    yield resultOf({
      name: "governed, of one core, against what is asked",
      unit: "1/s",
      ours,
      peer: asked,
      target: 1,
      notes: [`as they came: ${round(median(of("Switchyard", "perSecond")))}/s`],
    });
    for (const { name } of sides) {
      if (name === "direct" || name === "Switchyard") continue;
      const ratio = median(
        of("Switchyard", "perSecond").map((mine, at) => mine / (of(name, "perSecond")[at] ?? 0)),
      );
      yield resultOf({
        name: `governed, of one core, against ${name}`,
        unit: "1/s",
        ours,
        peer: of(name, "perCoreSecond"),
        target: targets[name],
        notes: [
          `as they came: ${ratio.toFixed(2)} times ${round(median(of(name, "perSecond")))}/s`,
        ],
      });
    }
    yield resultOf({
      name: "the upstream, of one core, against governed, so that it bounds nothing",
      unit: "1/s",
      ours: of("direct", "perCoreSecond"),
      peer: ours,
      target: upstreamTimesMin,
    });
  } finally {
    await close();
  }
};

export const latency: Lane = async function* (setting) {
  const { sides, close } = await openSides(setting);
  try {
    const turns = await takeTurns(
      setting,
      sides.map(({ name, asked, processorMs }) => ({ name, order: { asked }, processorMs })),
      { rounds: setting.full(5, 1), seconds: setting.full(2, 0.5), concurrency: 1 },
    );
    for (const which of ["p50", "p99"] as const) {
      for (const { name } of sides) {
        if (name !== "direct") yield added(which, name, turns);
      }
    }
  } finally {
    await close();
  }
};

/** Medians of the differences in each round. */
function added(
  which: "p50" | "p99",
  name: SideName,
  turns: ReadonlyMap<SideName, readonly Turn[]>,
): Result {
  const share = { p50: 0.5, p99: 0.99 }[which];
  const of = (side: SideName) =>
    (turns.get(side) ?? []).map(({ latenciesMs }) => quantile(latenciesMs, share));
  const differences = of(name).map((ms, index) => ms - (of("direct")[index] ?? Number.NaN));
  const result = boundedResult({
    name: `${name}: added ${which}, one at a time`,
    unit: "ms",
    ours: Math.max(0.001, median(differences)),
    bound: addedMsMax[which],
    notes: [`${Math.min(...differences).toFixed(3)} to ${Math.max(...differences).toFixed(3)}`],
  });
  return name === "Switchyard" ? result : { ...result, target: null };
}
