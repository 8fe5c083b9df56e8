/** The tables of evals, in their own schema; no other service reads them. `drizzle-kit` writes migrations from here. */
import {
  bigint,
  boolean,
  doublePrecision,
  index,
  integer,
  json,
  numeric,
  pgSchema,
  primaryKey,
  text,
  timestamp,
} from "drizzle-orm/pg-core";
import type { z } from "zod";
import type { CandidateResult, createRun, EvalRun } from "../sdk/protocol/admin.ts";

/** A run's request with its defaults filled in. */
export type RunRequest = z.infer<typeof createRun>;

/** @public drizzle-kit makes the schema only when it is exported. */
export const evals = pgSchema("evals");

/** A project's claim on a pinned file; the bytes are in the file store, once for all projects. */
export const datasets = evals.table(
  "datasets",
  {
    projectId: text("project_id").notNull(),
    sha256: text("sha256").notNull(),
    name: text("name").notNull(),
    rows: integer("rows").notNull(),
    sizeBytes: bigint("size_bytes", { mode: "number" }).notNull(),
    createdBy: text("created_by").notNull(),
    createdAt: at("created_at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.projectId, table.sha256] })],
);

export const runs = evals.table(
  "runs",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    // `json` and not `jsonb`, which would put the fields of an answer in another order.
    request: json("request").$type<RunRequest>().notNull(),
    status: text("status").$type<EvalRun["status"]>().notNull(),
    error: text("error"),
    /** Rows that each candidate answers. */
    rows: integer("rows").notNull(),
    createdBy: text("created_by").notNull(),
    createdAt: at("created_at").notNull(),
    finishedAt: at("finished_at"),
    /** Kept when the run ends, so that lists need not count every answer again. */
    results: json("results").$type<CandidateResult[]>(),
  },
  (table) => [index("runs_by_project").on(table.projectId, table.id)],
);

/** What a candidate stands for, pinned when the run begins. */
export const candidates = evals.table(
  "candidates",
  {
    runId: text("run_id")
      .notNull()
      .references(() => runs.id, { onDelete: "cascade" }),
    position: integer("position").notNull(),
    candidate: text("candidate").notNull(),
    kind: text("kind").$type<"base" | "adapter" | "route">().notNull(),
    /** The model that is asked for: an adapter's alias is replaced by the version it stood for. */
    model: text("model").notNull(),
    adapterDigest: text("adapter_digest"),
    /** Why the candidate was given up; absent while it can go on. */
    error: text("error"),
    /** What answers cost that a resumed run asked anew: paid, though no longer there. */
    discardedCostUsd: numeric("discarded_cost_usd", { precision: 38, scale: 12 })
      .notNull()
      .default("0"),
    /** When the registry took its measurement. */
    measuredAt: at("measured_at"),
  },
  (table) => [primaryKey({ columns: [table.runId, table.position] })],
);

export const answers = evals.table(
  "answers",
  {
    runId: text("run_id")
      .notNull()
      .references(() => runs.id, { onDelete: "cascade" }),
    position: integer("position").notNull(),
    row: integer("row").notNull(),
    reference: text("reference").notNull(),
    answer: text("answer"),
    /** Null when the row errored, and only then. */
    correct: boolean("correct"),
    error: text("error"),
    model: text("model"),
    adapterDigest: text("adapter_digest"),
    /** Null means unpriced. */
    costUsd: numeric("cost_usd", { precision: 38, scale: 12 }),
    inputTokens: integer("input_tokens"),
    outputTokens: integer("output_tokens"),
    latencyMs: doublePrecision("latency_ms"),
  },
  (table) => [primaryKey({ columns: [table.runId, table.position, table.row] })],
);

function at(name: string) {
  return timestamp(name, { withTimezone: true, mode: "date" });
}
