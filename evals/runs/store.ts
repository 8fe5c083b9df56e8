/** Runs, their candidates and answers in the database. */
import { and, asc, desc, eq, inArray, isNotNull, isNull, lt, or, type SQL, sql } from "drizzle-orm";
import type { CandidateResult, EvalRun } from "../../sdk/protocol/admin.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type EvalAnswer, evalAnswer } from "../../sdk/protocol/evals.ts";
import type { ProjectId, RunId, Sha256 } from "../../sdk/protocol/ids.ts";
import type { Database } from "../database.ts";
import type { Page } from "../datasets/datasets.ts";
import { answers, candidates, type RunRequest, runs } from "../schema.ts";
import type { PinnedCandidate } from "./candidates.ts";
import { summarize } from "./summary.ts";

export type RunRow = typeof runs.$inferSelect;
export type NewAnswer = typeof answers.$inferInsert;
/** A candidate of a run with how far it has come. */
export type RunCandidate = PinnedCandidate & {
  position: number;
  error?: string;
  measured: boolean;
};
export type AnswersFilter = {
  candidate?: string | undefined;
  /** Only what was wrong or errored. */
  failed: boolean;
  limit: number;
  after?: { position: number; row: number } | undefined;
};

export type RunStore = ReturnType<typeof openRunStore>;

export function openRunStore(db: Database, now: () => number) {
  const candidatesOf = async (runIds: readonly string[]) => {
    const found = await db
      .select()
      .from(candidates)
      .where(inArray(candidates.runId, [...runIds]))
      .orderBy(asc(candidates.position));
    return new Map(
      runIds.map((runId) => [runId, found.filter((candidate) => candidate.runId === runId)]),
    );
  };

  /** Results as kept when a run ended, or counted now for one that runs. */
  const tell = async (found: readonly RunRow[]): Promise<EvalRun[]> => {
    const open = found.filter(({ results }) => results === null).map(({ id }) => id);
    const counted =
      open.length === 0 ? undefined : await summarize(db, open, await candidatesOf(open));
    return found.map((run) => toEvalRun(run, run.results ?? counted?.get(run.id) ?? []));
  };

  /** @throws HubError `not_found`, also for another project's */
  const row = async (id: string, projectId: ProjectId | undefined): Promise<RunRow> => {
    const [found] = await db
      .select()
      .from(runs)
      .where(and(eq(runs.id, id), ofProject(projectId)));
    if (found) return found;
    throw new HubError("not_found", `There is no eval run '${id.slice(0, 64)}'.`);
  };

  return {
    row,
    async tell(id: string, projectId: ProjectId | undefined): Promise<EvalRun> {
      const [run] = await tell([await row(id, projectId)]);
      if (!run) throw new HubError("not_found", `There is no eval run '${id}'.`);
      return run;
    },

    /** Newest first. */
    async list(projectId: ProjectId | undefined, { limit, after }: Page): Promise<EvalRun[]> {
      const found = await db
        .select()
        .from(runs)
        .where(and(ofProject(projectId), after === undefined ? undefined : lt(runs.id, after)))
        .orderBy(desc(runs.id))
        .limit(limit);
      return tell(found);
    },

    async add(run: {
      id: RunId;
      projectId: ProjectId;
      request: RunRequest;
      rows: number;
      createdBy: string;
      candidates: readonly PinnedCandidate[];
    }): Promise<void> {
      const { candidates: pinned, ...rest } = run;
      await db.transaction(async (tx) => {
        await tx.insert(runs).values({ ...rest, status: "running", createdAt: new Date(now()) });
        await tx
          .insert(candidates)
          .values(pinned.map((one, position) => ({ runId: run.id, position, ...one })));
      });
    },

    async candidates(runId: string): Promise<RunCandidate[]> {
      const found = (await candidatesOf([runId])).get(runId) ?? [];
      return found.map((one) => ({
        position: one.position,
        candidate: one.candidate,
        kind: one.kind,
        model: one.model,
        measured: one.measuredAt !== null,
        ...(one.adapterDigest === null ? {} : { adapterDigest: one.adapterDigest as Sha256 }),
        ...(one.error === null ? {} : { error: one.error }),
      }));
    },

    /** Which rows have an answer, as `position.row`. */
    async answered(runId: string): Promise<Set<string>> {
      const found = await db
        .select({ position: answers.position, row: answers.row })
        .from(answers)
        .where(eq(answers.runId, runId));
      return new Set(found.map(answerId));
    },

    async saveAnswer(answer: NewAnswer): Promise<void> {
      const { reference, answer: text, error } = answer;
      await db
        .insert(answers)
        .values({
          ...answer,
          reference: storable(reference),
          ...(text == null ? {} : { answer: storable(text) }),
          ...(error == null ? {} : { error: storable(error) }),
        })
        .onConflictDoNothing();
    },

    async failCandidate(runId: string, position: number, error: string): Promise<void> {
      await db
        .update(candidates)
        .set({ error: storable(error) })
        .where(and(eq(candidates.runId, runId), eq(candidates.position, position)));
    },

    async markMeasured(runId: string, positions: readonly number[]): Promise<void> {
      await db
        .update(candidates)
        .set({ measuredAt: new Date(now()) })
        .where(and(eq(candidates.runId, runId), inArray(candidates.position, [...positions])));
    },

    /** Counts every candidate's answers now. */
    async results(runId: string): Promise<CandidateResult[]> {
      const counted = await summarize(db, [runId], await candidatesOf([runId]));
      return counted.get(runId) ?? [];
    },

    /** Ends a run that runs; one that has ended stays as it is. */
    async finish(runId: string, end: { status: "done" | "failed"; error?: string }): Promise<void> {
      const results = await this.results(runId);
      await db
        .update(runs)
        .set({ ...end, results, finishedAt: new Date(now()) })
        .where(and(eq(runs.id, runId), eq(runs.status, "running")));
    },

    /**
     * Takes an ended run up again: what errored is forgotten so that it is asked anew, except where the
     * registry already holds the measurement.
     * @returns false when the run is running
     */
    async reopen(runId: string): Promise<boolean> {
      return db.transaction(async (tx) => {
        const reopened = await tx
          .update(runs)
          .set({ status: "running", error: null, results: null, finishedAt: null })
          .where(and(eq(runs.id, runId), inArray(runs.status, ["done", "failed"])))
          .returning({ id: runs.id });
        if (reopened.length === 0) return false;
        const unmeasured = tx
          .select({ position: candidates.position })
          .from(candidates)
          .where(and(eq(candidates.runId, runId), isNull(candidates.measuredAt)));
        const asksAnew = and(
          eq(answers.runId, runId),
          isNotNull(answers.error),
          inArray(answers.position, unmeasured),
        );
        // What is asked anew has been paid for all the same.
        await tx
          .update(candidates)
          .set({
            discardedCostUsd: sql`${candidates.discardedCostUsd} + coalesce((
              select sum(${answers.costUsd}) from ${answers}
              where ${asksAnew} and ${answers.position} = ${candidates.position}), 0)`,
          })
          .where(eq(candidates.runId, runId));
        await tx.delete(answers).where(asksAnew);
        await tx
          .update(candidates)
          .set({ error: null })
          .where(and(eq(candidates.runId, runId), isNull(candidates.measuredAt)));
        return true;
      });
    },

    /** The runs that are written down as running, whoever ran them. */
    async running(): Promise<string[]> {
      const found = await db.select({ id: runs.id }).from(runs).where(eq(runs.status, "running"));
      return found.map(({ id }) => id);
    },

    /** By candidate, then by row. */
    async answers(runId: string, filter: AnswersFilter): Promise<EvalAnswer[]> {
      const wrong = or(isNull(answers.correct), eq(answers.correct, false));
      const found = await db
        .select({ answer: answers, candidate: candidates.candidate })
        .from(answers)
        .innerJoin(
          candidates,
          and(eq(candidates.runId, answers.runId), eq(candidates.position, answers.position)),
        )
        .where(
          and(
            eq(answers.runId, runId),
            filter.candidate === undefined ? undefined : eq(candidates.candidate, filter.candidate),
            filter.failed ? wrong : undefined,
            filter.after &&
              sql`(${answers.position}, ${answers.row}) > (${filter.after.position}, ${filter.after.row})`,
          ),
        )
        .orderBy(asc(answers.position), asc(answers.row))
        .limit(filter.limit);
      return found.map(({ answer, candidate }) => toEvalAnswer(answer, candidate));
    },
  };
}

/** The cursor of an answer in lists. */
export function answerId({ position, row }: { position: number; row: number }): string {
  return `${position}.${row}`;
}

/** Postgres keeps any character in a text but this one, which models do write. */
function storable(text: string): string {
  return text.replaceAll("\0", "\ufffd");
}

function ofProject(projectId: ProjectId | undefined): SQL | undefined {
  return projectId === undefined ? undefined : eq(runs.projectId, projectId);
}

function toEvalRun(run: RunRow, results: CandidateResult[]): EvalRun {
  return {
    id: run.id,
    projectId: run.projectId,
    task: run.request.task,
    dataset: run.request.dataset,
    scorer: run.request.scorer,
    status: run.status,
    ...(run.error === null ? {} : { error: run.error }),
    rows: run.rows,
    answered: results.reduce((sum, { n, errored }) => sum + n + errored, 0),
    candidates: results,
    createdAt: run.createdAt.toISOString(),
    ...(run.finishedAt === null ? {} : { finishedAt: run.finishedAt.toISOString() }),
  };
}

function toEvalAnswer(row: typeof answers.$inferSelect, candidate: string): EvalAnswer {
  const { runId: _, position, ...fields } = row;
  const present = Object.entries(fields).filter(([, value]) => value !== null);
  return evalAnswer.parse({
    ...Object.fromEntries(present),
    id: answerId({ position, row: row.row }),
    candidate,
  });
}
