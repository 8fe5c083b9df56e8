/** What a step came to, row by row: plain data that the step hands the scheduler. */
import type { PromptLogprobs } from "./logprobs.ts";
import type { Chosen } from "./sequence.ts";
import type { StepRow } from "./types.ts";

/**
 * What became of a row: computed, or failed. One that is sampled has chosen a token for each of its guesses that
 * held, and one more; or none, where it has to come again.
 */
export type RowOutcome =
  | {
      type: "computed";
      row: StepRow;
      chosen: readonly Chosen[];
      /** Of the prompt's tokens that the row scores. */
      scores?: readonly PromptLogprobs[];
      forks?: readonly ForkOutcome[];
      embedding?: Float32Array;
    }
  | { type: "failed"; row: StepRow; error: unknown };

/** What a sequence that goes on from another's row has chosen there, or why it could not. */
export type ForkOutcome =
  | { type: "chosen"; id: number; chosen: Chosen }
  | { type: "failed"; id: number; error: unknown };
