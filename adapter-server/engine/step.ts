/** Computes one planned step; a row that cannot be computed is found and fails alone. */
import { invariant } from "../../sdk/protocol/errors.ts";
import type { PromptLogprobs } from "./logprobs.ts";
import type { Pooler } from "./pooling.ts";
import type { Chosen } from "./sequence.ts";
import type { ForkOutcome, RowOutcome } from "./step-outcome.ts";
import type { StepPlan } from "./step-plan.ts";
import type { ModelRunner, StepRow } from "./types.ts";

/** Chooses next tokens from `[vocabSize]` logits. */
export type Chooser = {
  /** Hears of all that a call returned, before it is asked for any choice or score. */
  prepare(choices: readonly SampledLogits[], scored: readonly ScoredLogits[]): Promise<void>;
  /**
   * @param said tokens that this step has chosen for the sequence before
   * @returns nothing where it cannot be told yet: the row's last token is computed again
   */
  choose(sequenceId: number, logits: Float32Array, said: readonly number[]): Chosen | undefined;
  /** How likely the prompt's token was that follows the one at `position`. */
  score(sequenceId: number, logits: Float32Array, position: number): PromptLogprobs;
};

/** Logits that a sequence's next token may be chosen from. */
export type SampledLogits = {
  sequenceId: number;
  logits: Float32Array;
  /** What the sequence has said in this step when it gets there: the guesses before. */
  said: readonly number[];
};

/** Logits that tell how likely the next token of a prompt was. */
export type ScoredLogits = { sequenceId: number; logits: Float32Array; position: number };

type Rows = Pick<StepPlan, "decode" | "prefill">;

/**
 * Runs all rows at once. When that fails, each half is run by itself, and so on down to single rows:
 * one bad row among n costs about 2 · log2 n more runs, and only that row fails.
 */
export async function computeStep(
  runner: Pick<ModelRunner, "run" | "statesOf">,
  plan: Rows,
  chooser: Chooser,
  pooler?: Pick<Pooler, "take">,
): Promise<RowOutcome[]> {
  const rows = [...plan.decode, ...plan.prefill];
  if (rows.length === 0) return [];
  let results: RowLogits[];
  try {
    results = split(await runner.run(plan.decode, plan.prefill), rows);
    await chooser.prepare(
      results.flatMap(({ choices }) => choices),
      results.flatMap(({ scored }) => scored),
    );
  } catch (error) {
    const [only] = rows;
    if (rows.length === 1 && only) return [{ type: "failed", row: only, error }];
    const [first, second] = halve(plan);
    return [
      ...(await computeStep(runner, first, chooser, pooler)),
      ...(await computeStep(runner, second, chooser, pooler)),
    ];
  }
  return rows.map((row, index) => {
    const states = row.states ? runner.statesOf?.(row) : undefined;
    if (states && pooler) return pooled(row, states, pooler);
    return sampled(row, results[index]!, chooser);
  });
}

/** The rows that may share a call, and each of the others by itself. */
export function callsOf({ decode, prefill }: Rows, isApart: (row: StepRow) => boolean): Rows[] {
  const together = {
    decode: decode.filter((row) => !isApart(row)),
    prefill: prefill.filter((row) => !isApart(row)),
  };
  return [
    together,
    ...decode.filter(isApart).map((row) => ({ decode: [row], prefill: [] })),
    ...prefill.filter(isApart).map((row) => ({ decode: [], prefill: [row] })),
  ];
}

/** What was computed of a row's sampled tokens: those that are scored come first. */
type RowLogits = { scored: ScoredLogits[]; choices: SampledLogits[] };

function split(results: readonly Float32Array[], rows: readonly StepRow[]): RowLogits[] {
  const wanted = rows.reduce((sum, { samples }) => sum + samples, 0);
  invariant(results.length === wanted, "the runner returns logits for each sampled token");
  let next = 0;
  return rows.map((row) => {
    const { sequenceId, tokens, samples, scores = 0 } = row;
    const logits = results.slice(next, next + samples);
    next += samples;
    const firstScored = row.position + tokens.length - samples;
    const firstGuess = guessesFrom(row);
    return {
      scored: logits.slice(0, scores).map((values, index) => ({
        ...{ sequenceId, logits: values, position: firstScored + index },
      })),
      choices: logits.slice(scores).map((values, index) => ({
        ...{ sequenceId, logits: values, said: tokens.slice(firstGuess, firstGuess + index) },
      })),
    };
  });
}

/** The place of the first guess among a row's tokens. */
function guessesFrom({ tokens, samples, scores = 0 }: StepRow): number {
  return tokens.length - (samples - scores) + 1;
}

/**
 * Chooses tokens for as long as the row's guesses were right: each is chosen from the logits, and by the same
 * draw, as if those before it had been computed one by one. So there is at least one, unless what may be said is not
 * known yet.
 */
function sampled(
  row: StepRow,
  { scored, choices }: RowLogits,
  chooser: Pick<Chooser, "choose" | "score">,
): RowOutcome {
  const firstGuess = guessesFrom(row);
  const chosen: Chosen[] = [];
  const said: number[] = [];
  try {
    const scores = scored.map((one) => chooser.score(one.sequenceId, one.logits, one.position));
    for (const [index, { logits }] of choices.entries()) {
      const one = chooser.choose(row.sequenceId, logits, said);
      if (!one) break;
      chosen.push(one);
      said.push(one.token);
      if (one.token !== row.tokens[firstGuess + index]) break;
    }
    const isLate = choices.length > 0 && chosen.length === 0;
    const forks = isLate
      ? undefined
      : row.forks?.map((id) => forked(id, choices[0]!.logits, chooser));
    return { type: "computed", row, chosen, scores, ...(forks && { forks }) };
  } catch (error) {
    // Logits that allow no choice are the fault of one row, of its adapter most likely. Behind a token that was
    // chosen they are met again, if the sequence gets there.
    if (chosen.length === 0) return { type: "failed", row, error };
    return { type: "computed", row, chosen };
  }
}

/** The first token of another choice, from the same logits; those were prepared for all of them, which are alike. */
function forked(id: number, logits: Float32Array, chooser: Pick<Chooser, "choose">): ForkOutcome {
  try {
    const chosen = chooser.choose(id, logits, []);
    invariant(chosen, "where one of them chooses, all may");
    return { type: "chosen", id, chosen };
  } catch (error) {
    return { type: "failed", id, error };
  }
}

/** What a sequence that is to be embedded has got by this row. */
function pooled(row: StepRow, states: Float32Array, pooler: Pick<Pooler, "take">): RowOutcome {
  try {
    const embedding = pooler.take(row, states);
    return { type: "computed", row, chosen: [], ...(embedding && { embedding }) };
  } catch (error) {
    return { type: "failed", row, error };
  }
}

function halve({ decode, prefill }: Rows): [Rows, Rows] {
  const middle = Math.ceil((decode.length + prefill.length) / 2);
  const cut = Math.min(middle, decode.length);
  const prefillCut = middle - cut;
  return [
    { decode: decode.slice(0, cut), prefill: prefill.slice(0, prefillCut) },
    { decode: decode.slice(cut), prefill: prefill.slice(prefillCut) },
  ];
}
