/** Whether steps in which one sequence decodes get weights of their own: whether there is room, and whether they are quicker here. */
import type { ModelRunner, StepRow } from "../../engine/types.ts";
import type { ModelSpec } from "../model-spec.ts";
import { eightBitBytes, fitsMemory } from "./plan.ts";

/** Milliseconds of a step of one sequence over the main weights, and over those for single sequences. */
export type StepTimes = { main: number; single: number };
export type SingleChoice = { isChosen: boolean; reason: string };

/** @returns why there is no room for both kinds of weights; undefined when there is */
export function lackOfRoom(spec: ModelSpec, memoryBytesMax: number): SingleChoice | undefined {
  if (fitsMemory(spec, eightBitBytes + fourBitBytes, memoryBytesMax)) return undefined;
  const reason = "left out: weights of 8 and of 4 bits together do not fit into this memory";
  return { isChosen: false, reason };
}

/** Weights that save less than a twentieth of a step are not worth what they change in answers. */
export function chooseSingle({ main, single }: StepTimes): SingleChoice {
  const isChosen = main >= single * gainMin;
  const times = `a step of one sequence takes ${single.toFixed(1)} ms with them and ${main.toFixed(1)} without`;
  return { isChosen, reason: `${isChosen ? "kept" : "left out"}: ${times}` };
}

/**
 * Times steps of one sequence. Both take turns, some steps each, and the least time of each counts: what else the machine
 * does can only add to it.
 * @param runner of an import with both
 */
export async function timeSteps(runner: ModelRunner): Promise<StepTimes> {
  const times: StepTimes = { main: Number.POSITIVE_INFINITY, single: Number.POSITIVE_INFINITY };
  const blocks = Array.from({ length: blocksTimed(runner.blockSize) }, (_, block) => block);
  const main: StepRow = {
    ...{ sequenceId: 0, tokens: [0], position, blocks },
    ...{ slot: 0, samples: 1 },
  };
  const rows = { main, single: { ...main, isSingle: true } };
  for (let round = 0; round < rounds; round++) {
    for (const weights of ["main", "single"] as const) {
      // The first finds the caches as the other weights left them.
      await runner.run([rows[weights]], []);
      for (let step = 0; step < stepsEach; step++) {
        const startedAtMs = performance.now();
        await runner.run([rows[weights]], []);
        times[weights] = Math.min(times[weights], performance.now() - startedAtMs);
      }
    }
  }
  return times;
}

/** Blocks of the key/value pool that `timeSteps` needs. */
export function blocksTimed(blockSize: number): number {
  return Math.floor(position / blockSize) + 1;
}

/** For a parameter; queries, keys, values and the output matrix have 8 bits once more. */
const fourBitBytes = 0.8;
const gainMin = 1.05;
/** Tokens before the one that is computed, as in a short chat. */
const position = 128;
const rounds = 4;
const stepsEach = 4;
