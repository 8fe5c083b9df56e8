/** Takes a pushed adapter: everything is checked before anything is kept, and the same content is one version. */
import { hash } from "node:crypto";
import type { z } from "zod";
import { type CheckedAdapter, checkAdapter } from "../../sdk/protocol/adapter/check-adapter.ts";
import { adapterDigest } from "../../sdk/protocol/adapter/digest.ts";
import type { pushAdapter as manifestSchema } from "../../sdk/protocol/admin.ts";
import type { Adapter, AdapterVersion, Model } from "../../sdk/protocol/catalog.ts";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { newId, type ProjectId } from "../../sdk/protocol/ids.ts";
import { type ArtifactStore, sha256Of } from "../artifacts/store.ts";
import type { Change, ChangeLog } from "../change.ts";
import type { Database, Queryable } from "../db.ts";
import { findModel } from "../models.ts";
import { getProject } from "../projects.ts";
import { adapters, adapterVersions } from "../schema.ts";
import { aliasTarget, moveAlias, requireEvidence } from "./aliases.ts";
import { findAdapter, getAdapter } from "./read.ts";

type Manifest = z.infer<typeof manifestSchema>;

/** What one push brings, its sender already allowed to push for the project. */
export type Push = {
  manifest: Manifest;
  projectId: ProjectId;
  actor: string;
  /** Asked once all is read and checked. @throws HubError when its sender may not push any more */
  requireStill(db: Queryable): Promise<void>;
  config: Uint8Array;
  weights: Uint8Array;
};

export type PushParts = {
  db: Database;
  changes: ChangeLog;
  artifacts: ArtifactStore;
  adapterRankMax: number;
};

export type Pushed = { adapter: Adapter; version: AdapterVersion; created: boolean };

/**
 * @throws HubError `model_not_found` for the base, `not_found` for the project, `invalid_adapter` and its kin, `no_evidence` for a
 *   champion that nothing measured, `storage_full`
 */
export async function pushAdapter(push: Push, parts: PushParts): Promise<Pushed> {
  const { manifest, projectId } = push;
  const model = await findBase(parts.db, manifest.base);
  await getProject(parts.db, projectId);
  const checked = checkFiles(push, model, parts.adapterRankMax);
  const version = await describe(push, checked, model);
  if (manifest.alias !== undefined) {
    const known = await findAdapter(parts.db, { ...manifest, projectId });
    if (!known || aliasTarget(known, manifest.alias) === null) {
      await requireEvidence(parts.db, { projectId, name: manifest.name }, manifest.alias, version);
    }
  }

  await parts.artifacts.put(version.configSha256, push.config);
  await parts.artifacts.put(version.weightsSha256, push.weights);
  return parts.changes.change(push.actor, async (change) => {
    await push.requireStill(change.tx);
    return register(change, push, version);
  });
}

async function findBase(db: Database, base: string): Promise<Model> {
  const model = await findModel(db, base);
  if (model) return model;
  throw new HubError(
    "model_not_found",
    `The base '${base.slice(0, 200)}' does not exist. Push over a model that is declared here.`,
    { param: "base" },
  );
}

function checkFiles(
  { manifest, config, weights }: Push,
  model: Model,
  rankMax: number,
): CheckedAdapter {
  if (!model.base) {
    throw new HubError(
      "adapter_base_mismatch",
      `'${model.id}' is served by '${model.upstream}', which takes no adapters. Push over a base that does.`,
      { param: "base" },
    );
  }
  const { shape } = model.base;
  const baseNames = manifest.acceptBaseName ? undefined : [model.id, ...shape.trainedAs];
  return checkAdapter({ config, weights, shape, rankMax, baseNames });
}

type NewVersion = Omit<AdapterVersion, "version" | "createdAt">;

async function describe(
  push: Push,
  { rank, targetModules }: CheckedAdapter,
  model: Model,
): Promise<NewVersion> {
  invariant(model.base, "only a model with a base was checked");
  const configSha256 = await sha256Of(push.config);
  const weightsSha256 = await sha256Of(push.weights);
  const files = { configSha256, weightsSha256 };
  return {
    ...files,
    digest: adapterDigest(files, (text) => hash("sha256", text)),
    sizeBytes: push.config.length + push.weights.length,
    rank,
    targetModules,
    baseDigest: model.base.digest,
    lineage: push.manifest.lineage,
    createdBy: push.actor,
  };
}

/** Finds or makes the adapter and the version, and points the alias at it unless it points elsewhere. */
async function register(change: Change, push: Push, found: NewVersion): Promise<Pushed> {
  const { manifest, projectId } = push;
  const before =
    (await findAdapter(change.tx, { ...manifest, projectId })) ?? (await create(change, push));
  if (manifest.shared && !before.shared) {
    throw new HubError(
      "already_exists",
      `'${manifest.name}' exists and is not shared; push under another name to share it.`,
      { param: "shared" },
    );
  }
  const known = before.versions.find(({ digest }) => digest === found.digest);
  const version = known ?? (await addVersion(change, before, found));
  let adapter = known ? before : await getAdapter(change.tx, before.id, undefined);
  if (manifest.alias !== undefined && aliasTarget(adapter, manifest.alias) === null) {
    const move = { version: version.version, expect: null, reason: "pushed", force: false };
    adapter = await moveAlias(change, adapter, manifest.alias, move);
  }
  return { adapter, version, created: known === undefined };
}

async function create({ tx, at, record }: Change, { manifest, projectId }: Push): Promise<Adapter> {
  const { base, name, shared } = manifest;
  const id = newId("adp", at.getTime());
  await tx.insert(adapters).values({ id, projectId, base, name, shared, createdAt: at });
  await record({ type: "adapter.created", subject: id, projectId, detail: { base, name, shared } });
  return getAdapter(tx, id, undefined);
}

async function addVersion(
  { tx, at, record }: Change,
  adapter: Adapter,
  found: NewVersion,
): Promise<AdapterVersion> {
  const version = 1 + Math.max(0, ...adapter.versions.map((it) => it.version));
  await tx
    .insert(adapterVersions)
    .values({ ...found, adapterId: adapter.id, version, createdAt: at });
  await record({
    type: "adapter.version_pushed",
    subject: adapter.id,
    projectId: adapter.projectId,
    detail: { version, digest: found.digest, rank: found.rank, lineage: found.lineage },
  });
  return { ...found, version, createdAt: at.toISOString() };
}
