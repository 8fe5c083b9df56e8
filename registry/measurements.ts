/** Evidence from eval runs: what a candidate scored, cost and took. Routing and promotion decide by it. */
import { and, asc, eq, gt, isNull } from "drizzle-orm";
import type { z } from "zod";
import type { addMeasurements as addSchema } from "../sdk/protocol/admin.ts";
import type { Measurement } from "../sdk/protocol/catalog.ts";
import { type MeasurementId, newId, type ProjectId, type Sha256 } from "../sdk/protocol/ids.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { getProject } from "./projects.ts";
import { toMeasurement } from "./rows.ts";
import { measurements } from "./schema.ts";

export type NewMeasurement = z.infer<typeof addSchema>["measurements"][number];

/**
 * Adds what a run found. A run that reports the same candidate again gets the row of the first time.
 * @throws HubError `not_found` for a project that does not exist
 */
export async function addMeasurements(
  change: Change,
  input: readonly NewMeasurement[],
): Promise<Measurement[]> {
  for (const project of new Set(input.map((it) => it.projectId)))
    await getProject(change.tx, project);
  const added: Measurement[] = [];
  for (const measurement of input) added.push(await addOne(change, measurement));
  return added;
}

async function addOne({ tx, at, record }: Change, input: NewMeasurement): Promise<Measurement> {
  const { runId, model, adapterDigest } = input;
  const [known] = await tx
    .select()
    .from(measurements)
    .where(
      and(
        eq(measurements.runId, runId),
        eq(measurements.model, model),
        adapterDigest === undefined
          ? isNull(measurements.adapterDigest)
          : eq(measurements.adapterDigest, adapterDigest),
      ),
    );
  if (known) return toMeasurement(known);
  const [row] = await tx
    .insert(measurements)
    .values({
      ...input,
      id: newId("msr", at.getTime()),
      adapterDigest: adapterDigest ?? null,
      meanCostUsd: input.meanCostUsd ?? null,
      measuredAt: new Date(input.measuredAt),
    })
    .returning();
  if (!row) throw new Error("the insert returned no row");
  const { task, score, lower, upper, n } = row;
  await record({
    type: "measurement.added",
    subject: row.id,
    projectId: row.projectId,
    detail: { runId, task, model, score, lower, upper, n, ...(adapterDigest && { adapterDigest }) },
  });
  return toMeasurement(row);
}

/** Whether anyone in the adapter's own project has measured this content. */
export async function isMeasured(
  db: Queryable,
  projectId: ProjectId,
  digest: Sha256,
): Promise<boolean> {
  const [row] = await db
    .select({ id: measurements.id })
    .from(measurements)
    .where(and(eq(measurements.projectId, projectId), eq(measurements.adapterDigest, digest)))
    .limit(1);
  return row !== undefined;
}

export async function listMeasurements(
  db: Queryable,
  filter: { projectId?: ProjectId | undefined; task?: string | undefined },
  page: Page,
): Promise<Measurement[]> {
  const rows = await db
    .select()
    .from(measurements)
    .where(
      and(
        filter.projectId && eq(measurements.projectId, filter.projectId),
        filter.task === undefined ? undefined : eq(measurements.task, filter.task),
        page.after === undefined ? undefined : gt(measurements.id, page.after as MeasurementId),
      ),
    )
    .orderBy(asc(measurements.id))
    .limit(page.limit + 1);
  return rows.map(toMeasurement);
}
