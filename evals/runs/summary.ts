/** Counts a run's answers into one result for each candidate. */
import { type SQL, sql } from "drizzle-orm";
import { z } from "zod";
import { type CandidateResult, candidateResult } from "../../sdk/protocol/admin.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import type { Database } from "../database.ts";
import type { candidates } from "../schema.ts";
import { type Paired, pairedDifference, shareCorrect } from "../statistics.ts";

type Candidate = typeof candidates.$inferSelect;

/** @param candidatesByRun  each run's candidates by position; those without answers are told too */
export async function summarize(
  db: Database,
  runIds: readonly string[],
  candidatesByRun: ReadonlyMap<string, readonly Candidate[]>,
): Promise<Map<string, CandidateResult[]>> {
  const counted = counts.parse(await db.execute(countQuery(runIds)));
  const paired = pairs.parse(await db.execute(pairQuery(runIds)));
  const keyOf = (one: { run_id: string; position: number }) => `${one.run_id} ${one.position}`;
  const byCandidate = new Map(counted.map((one) => [keyOf(one), one]));
  const pairByCandidate = new Map(paired.map((one) => [keyOf(one), one]));
  return new Map(
    runIds.map((runId) => [
      runId,
      (candidatesByRun.get(runId) ?? []).map((candidate) => {
        const key = keyOf({ run_id: runId, position: candidate.position });
        return toResult(candidate, byCandidate.get(key), pairByCandidate.get(key));
      }),
    ]),
  );
}

function toResult(
  candidate: Candidate,
  found: Counts | undefined,
  pair: Paired | undefined,
): CandidateResult {
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
    ...(pair ? { versusFirst: versus(pair) } : {}),
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

function versus({ n, gained, lost }: Paired): CandidateResult["versusFirst"] {
  return { n, gained, lost, ...pairedDifference({ n, gained, lost }) };
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

/** Each later candidate beside the first, on the rows that both were judged on. */
function pairQuery(runIds: readonly string[]): SQL {
  const ids = sql.join(
    runIds.map((id) => sql`${id}`),
    sql`, `,
  );
  return sql`
    select
      one.run_id,
      one.position,
      count(*)::int as n,
      count(*) filter (where one.correct and not base.correct)::int as gained,
      count(*) filter (where base.correct and not one.correct)::int as lost
    from evals.answers one
    join evals.answers base
      on base.run_id = one.run_id and base.position = 0 and base.row = one.row
    where one.run_id in (${ids}) and one.position > 0 and one.error is null and base.error is null
    group by one.run_id, one.position`;
}

const pairs = z.array(
  z.object({
    run_id: z.string(),
    position: z.int(),
    n: z.int(),
    gained: z.int(),
    lost: z.int(),
  }),
);

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
