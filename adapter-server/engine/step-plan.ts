/** What one step is to do: plain data, filled while the scheduler plans. */

import type { BlockCopy } from "./block-manager.ts";
import { remaining, type Sequence } from "./sequence.ts";
import type { StepRow } from "./types.ts";

/** One step: first copy adapters into slots and blocks over blocks, in this order, then compute the rows. */
export type StepPlan = {
  loads: { slot: number; digest: string }[];
  copies: BlockCopy[];
  decode: StepRow[];
  prefill: StepRow[];
};

export function emptyPlan(): StepPlan {
  return { loads: [], copies: [], decode: [], prefill: [] };
}

export function tokensOf({ decode, prefill }: StepPlan): number {
  return countTokens(decode) + countTokens(prefill);
}

export function countTokens(rows: readonly StepRow[]): number {
  let tokens = 0;
  for (const row of rows) tokens += row.tokens.length;
  return tokens;
}

/** Takes the rows of these sequences out of the plan. */
export function withdraw(plan: StepPlan, ids: ReadonlySet<number>): void {
  plan.decode = plan.decode.filter((row) => !ids.has(row.sequenceId));
  plan.prefill = plan.prefill.filter((row) => !ids.has(row.sequenceId));
}

/** Whether its next row is a decode row; one that is pooled only ever has chunks of its prompt. */
export function decodes(sequence: Sequence): boolean {
  return sequence.pooling === undefined && remaining(sequence) === 1;
}
