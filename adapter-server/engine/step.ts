/** Computes one planned step; a row that cannot be computed is found and fails alone. */
import type { TokenLogprobs } from "./logprobs.ts";
import type { RowOutcome, StepPlan } from "./scheduler.ts";
import type { ModelRunner, StepRow } from "./types.ts";

/** Chooses a row's next token from `[vocabSize]` logits, and tells how likely it was where that is asked for. */
export type Sample = (
  row: StepRow,
  logits: Float32Array,
) => { token: number; logprobs?: TokenLogprobs };

type Rows = Pick<StepPlan, "decode" | "prefill">;

/**
 * Runs all rows at once. When that fails, each half is run by itself, and so on down to single rows:
 * one bad row among n costs about 2 · log2 n more runs, and only that row fails.
 */
export async function computeStep(
  runner: Pick<ModelRunner, "run">,
  plan: Rows,
  sample: Sample,
): Promise<RowOutcome[]> {
  const rows = [...plan.decode, ...plan.prefill];
  if (rows.length === 0) return [];
  let logits: Float32Array[];
  try {
    logits = await runner.run(plan.decode, plan.prefill);
  } catch (error) {
    const [only] = rows;
    if (rows.length === 1 && only) return [{ type: "failed", row: only, error }];
    const [first, second] = halve(plan);
    return [
      ...(await computeStep(runner, first, sample)),
      ...(await computeStep(runner, second, sample)),
    ];
  }
  let next = 0;
  return rows.map((row) => (row.sample ? sampled(row, logits[next++], sample) : computed(row)));
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

function computed(row: StepRow): RowOutcome {
  return { type: "computed", row };
}

/** Logits that allow no choice are the fault of one row, of its adapter most likely. */
function sampled(row: StepRow, logits: Float32Array | undefined, sample: Sample): RowOutcome {
  if (!logits) return { type: "failed", row, error: new Error("the runner returned no logits") };
  try {
    return { type: "computed", row, ...sample(row, logits) };
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
