/** Counts a run's answers into one result for each candidate. */
import { type SQL, sql } from "drizzle-orm";
import { z } from "zod";
import { type CandidateResult, candidateResult } from "../../sdk/protocol/admin.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import type { Database } from "../database.ts";
import type { candidates } from "../schema.ts";
import { shareCorrect } from "../statistics.ts";

type Candidate = typeof candidates.$inferSelect;

/** @param candidatesByRun  each run's candidates by position; those without answers are told too */
export async function summarize(
  db: Database,
  runIds: readonly string[],
  candidatesByRun: ReadonlyMap<string, readonly Candidate[]>,
): Promise<Map<string, CandidateResult[]>> {
  const counted = counts.parse(await db.execute(countQuery(runIds)));
  const byCandidate = new Map(counted.map((one) => [`${one.run_id} ${one.position}`, one]));
  return new Map(
    runIds.map((runId) => [
      runId,
      (candidatesByRun.get(runId) ?? []).map((candidate) =>
        toResult(candidate, byCandidate.get(`${runId} ${candidate.position}`)),
      ),
    ]),
  );
}

function toResult(candidate: Candidate, found: Counts | undefined): CandidateResult {
  const judged = found?.judged ?? 0;
  const errored = found?.errored ?? 0;
  const correct = found?.correct ?? 0;
  const error =
    candidate.error ??
    (judged === 0 && errored > 0 ? `no row could be judged: ${found?.first_error}` : undefined);
  return candidateResult.parse({
    candidate: candidate.candidate,
    ...(candidate.kind === "route" ? {} : { model: candidate.model }),
    ...optional({ adapterDigest: candidate.adapterDigest }),
    n: judged,
    correct,
    errored,
    ...(judged === 0 ? {} : shareCorrect({ correct, judged, errored })),
    unpriced: found?.unpriced ?? 0,
    ...optional({
      totalCostUsd: totalCost(found?.total_cost, candidate.discardedCostUsd),
      meanCostUsd: normalUsd(found?.mean_cost),
      meanInputTokens: found?.mean_input,
      meanOutputTokens: found?.mean_output,
      latencyP50Ms: found?.p50,
      latencyP95Ms: found?.p95,
      error,
    }),
  });
}

/** All that was paid, answers that were asked anew included; unknown when nothing had a price. */
function totalCost(answered: string | null | undefined, discarded: string): string | undefined {
  const sum = parseUsd(answered ?? "0") + parseUsd(discarded);
  return answered == null && sum === 0n ? undefined : formatUsd(sum);
}

/** SQL pads to twelve places; on the wire an amount has no trailing zeros. */
function normalUsd(text: string | null | undefined): string | undefined {
  return text === null || text === undefined ? undefined : formatUsd(parseUsd(text));
}

function optional(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== null && value !== undefined),
  );
}

/** Latency and tokens are those of judged rows; the mean cost is that of the priced ones. */
function countQuery(runIds: readonly string[]): SQL {
  const ids = sql.join(
    runIds.map((id) => sql`${id}`),
    sql`, `,
  );
  return sql`
    select
      run_id,
      position,
      count(*) filter (where error is null)::int as judged,
      count(*) filter (where correct)::int as correct,
      count(*) filter (where error is not null)::int as errored,
      count(*) filter (where error is null and cost_usd is null)::int as unpriced,
      sum(cost_usd)::text as total_cost,
      round(avg(cost_usd), 12)::text as mean_cost,
      (avg(input_tokens) filter (where error is null))::float8 as mean_input,
      (avg(output_tokens) filter (where error is null))::float8 as mean_output,
      percentile_cont(0.5) within group (order by latency_ms) filter (where error is null) as p50,
      percentile_cont(0.95) within group (order by latency_ms) filter (where error is null) as p95,
      (array_agg(error order by row) filter (where error is not null))[1] as first_error
    from evals.answers
    where run_id in (${ids})
    group by run_id, position`;
}

const counts = z.array(
  z.object({
    run_id: z.string(),
    position: z.int(),
    judged: z.int(),
    correct: z.int(),
    errored: z.int(),
    unpriced: z.int(),
    total_cost: z.string().nullable(),
    mean_cost: z.string().nullable(),
    mean_input: z.number().nullable(),
    mean_output: z.number().nullable(),
    p50: z.number().nullable(),
    p95: z.number().nullable(),
    first_error: z.string().nullable(),
  }),
);
type Counts = z.infer<typeof counts>[number];
