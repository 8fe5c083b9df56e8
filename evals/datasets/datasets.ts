/** Datasets as projects see them: pushed once, pinned by the SHA-256 of their bytes, never changed. */
import { and, desc, eq, type SQL, sql } from "drizzle-orm";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Dataset } from "../../sdk/protocol/evals.ts";
import { dataset } from "../../sdk/protocol/evals.ts";
import type { ProjectId } from "../../sdk/protocol/ids.ts";
import type { Limits } from "../config.ts";
import type { Database } from "../database.ts";
import { datasets } from "../schema.ts";
import type { FileStore } from "./file-store.ts";
import { type DatasetRow, parseDataset } from "./jsonl.ts";

export type Page = { limit: number; after?: string | undefined };

export type PushDataset = {
  projectId: ProjectId;
  name: string;
  createdBy: string;
  bytes: Uint8Array;
};

export type Datasets = {
  /**
   * Checks every line, keeps the file, then writes it down. The same bytes again are the same dataset.
   * @throws HubError `invalid_dataset`, `storage_full`
   */
  push(push: PushDataset): Promise<{ dataset: Dataset; created: boolean }>;
  /** @throws HubError `not_found`, also for another project's */
  get(digest: string, projectId: ProjectId | undefined): Promise<Dataset>;
  /** Newest first; the cursor is `datasetCursor` of the page's last. */
  list(projectId: ProjectId | undefined, page: Page): Promise<Dataset[]>;
  /** @throws HubError `not_found`, `internal_error` when the file was damaged */
  rows(digest: string, projectId: ProjectId): Promise<DatasetRow[]>;
};

/** Two projects may have pushed the same bytes, so the digest alone is no place in a list. */
export function datasetCursor({ projectId, sha256 }: Dataset): string {
  return `${projectId}.${sha256}`;
}

export function openDatasets(parts: {
  db: Database;
  files: FileStore;
  limits: Limits;
  now: () => number;
}): Datasets {
  const { db, files, limits } = parts;

  const get: Datasets["get"] = async (digest, projectId) => {
    const found = await db
      .select()
      .from(datasets)
      .where(and(eq(datasets.sha256, digest), ofProject(projectId)))
      .limit(1);
    if (found[0]) return toDataset(found[0]);
    throw new HubError(
      "not_found",
      `There is no dataset sha256:${digest}. Push it with POST /api/datasets, or list those there are with GET /api/datasets.`,
      { param: "dataset" },
    );
  };

  return {
    async push({ projectId, name, createdBy, bytes }) {
      const rows = parseDataset(bytes, limits).length;
      const sha256 = await files.keep(bytes);
      const inserted = await db
        .insert(datasets)
        .values({
          projectId,
          sha256,
          name,
          rows,
          sizeBytes: bytes.length,
          createdBy,
          createdAt: new Date(parts.now()),
        })
        .onConflictDoNothing()
        .returning();
      return { dataset: await get(sha256, projectId), created: inserted.length === 1 };
    },
    get,
    async list(projectId, { limit, after }) {
      const before =
        after === undefined
          ? undefined
          : sql`(${datasets.createdAt}, ${datasets.sha256}, ${datasets.projectId}) <
        (select created_at, sha256, project_id from evals.datasets
         where project_id || '.' || sha256 = ${after})`;
      const found = await db
        .select()
        .from(datasets)
        .where(and(ofProject(projectId), before))
        .orderBy(desc(datasets.createdAt), desc(datasets.sha256), desc(datasets.projectId))
        .limit(limit);
      return found.map(toDataset);
    },
    async rows(digest, projectId) {
      await get(digest, projectId);
      return parseDataset(await files.read(digest), limits);
    },
  };
}

function ofProject(projectId: ProjectId | undefined): SQL | undefined {
  return projectId === undefined ? undefined : eq(datasets.projectId, projectId);
}

function toDataset(row: typeof datasets.$inferSelect): Dataset {
  return dataset.parse({ ...row, createdAt: row.createdAt.toISOString() });
}
