/** Aliases: names such as `champion` that point at one version and move by compare-and-swap. */
import { and, asc, eq, lte, sql } from "drizzle-orm";
import type { z } from "zod";
import type { moveAlias as moveSchema } from "../../sdk/protocol/admin.ts";
import type { Adapter, AdapterVersion, RegistryEvent } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { defaultAlias } from "../../sdk/protocol/model-name.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import { isMeasured } from "../measurements.ts";
import { toEvent } from "../rows.ts";
import { aliases, events } from "../schema.ts";
import { getAdapter } from "./read.ts";

/**
 * @param adapter as read in the same change, so that nobody moves the alias in between
 * @throws HubError `alias_moved` with where it points, `not_found` for the version, `no_evidence`
 */
export async function moveAlias(
  change: Change,
  adapter: Adapter,
  alias: string,
  input: z.infer<typeof moveSchema>,
): Promise<Adapter> {
  const current = checkCurrent(adapter, alias, input.expect);
  const version = versionOf(adapter, input.version);
  if (current === version.version) return adapter;
  if (!input.force) await requireEvidence(change.tx, adapter, alias, version);
  const { reason, force } = input;
  await point(change, adapter, alias, version, { type: "alias.moved", reason, forced: force });
  return getAdapter(change.tx, adapter.id, undefined);
}

/**
 * Moves the alias back to the version it had before its last move; again goes back one further.
 * @param expect the version it points at now; absent takes whatever it is
 * @throws HubError `alias_moved`, `invalid_value` when there is no earlier version
 */
export async function rollBackAlias(
  change: Change,
  adapter: Adapter,
  alias: string,
  { expect, reason }: { expect?: number | undefined; reason: string },
): Promise<Adapter> {
  if (expect !== undefined) checkCurrent(adapter, alias, expect);
  const trail = versionTrail(await aliasEvents(change.tx, adapter, alias));
  const previous = trail.at(-2);
  if (previous === undefined) {
    throw new HubError(
      "invalid_value",
      `'${alias}' of '${adapter.name}' has no earlier version to go back to.`,
    );
  }
  const version = versionOf(adapter, previous);
  await point(change, adapter, alias, version, {
    type: "alias.rolled_back",
    reason,
    forced: false,
  });
  return getAdapter(change.tx, adapter.id, undefined);
}

/** The version that an alias points at; an alias may be called `constructor`, hence the own property. */
export function aliasTarget(adapter: Pick<Adapter, "aliases">, alias: string): number | null {
  return Object.hasOwn(adapter.aliases, alias) ? (adapter.aliases[alias] ?? null) : null;
}

/** Champions serve whoever asks for the adapter, so none becomes one unmeasured. @throws HubError `no_evidence` */
export async function requireEvidence(
  db: Queryable,
  adapter: Pick<Adapter, "projectId" | "name">,
  alias: string,
  { digest }: Pick<AdapterVersion, "digest">,
): Promise<void> {
  if (alias !== defaultAlias || (await isMeasured(db, adapter.projectId, digest))) return;
  throw new HubError(
    "no_evidence",
    `No eval run has measured this version of '${adapter.name}'. Run one, or move '${alias}' with force.`,
    { param: "version" },
  );
}

/** Events of one adapter, or of one of its aliases, oldest first. */
export async function aliasEvents(
  db: Queryable,
  adapter: Pick<Adapter, "id">,
  alias: string | undefined,
  until?: Date,
): Promise<RegistryEvent[]> {
  const rows = await db
    .select()
    .from(events)
    .where(
      and(
        eq(events.subject, adapter.id),
        alias === undefined ? undefined : eq(sql`${events.detail}->>'alias'`, alias),
        until === undefined ? undefined : lte(events.at, until),
      ),
    )
    .orderBy(asc(events.id));
  return rows.map(toEvent);
}

/** Where each alias pointed after the last of the given events, since when, and who moved it. */
export type AliasesAt = Record<
  string,
  { version: number; digest: string; since: string; actor: string; reason: string }
>;

export function aliasesAfter(history: readonly RegistryEvent[]): AliasesAt {
  const moves = history.filter(
    ({ type }) => type === "alias.moved" || type === "alias.rolled_back",
  );
  return Object.fromEntries(
    moves.map(({ detail, at, actor }) => [
      String(detail.alias),
      {
        version: Number(detail.to),
        digest: String(detail.digest),
        since: at,
        actor,
        reason: String(detail.reason),
      },
    ]),
  );
}

/** The versions an alias came by, with what was rolled back taken off again; the last is the present one. */
function versionTrail(history: readonly RegistryEvent[]): number[] {
  const trail: number[] = [];
  for (const { type, detail } of history) {
    if (type === "alias.moved") trail.push(Number(detail.to));
    else trail.pop();
  }
  return trail;
}

/** @returns the version that the alias points at */
function checkCurrent(adapter: Adapter, alias: string, expect: number | null): number | null {
  const current = aliasTarget(adapter, alias);
  if (current === expect) return current;
  throw new HubError(
    "alias_moved",
    `'${alias}' of '${adapter.name}' points at ${current ?? "no version"}, not at ${expect ?? "none"}. Look again before moving it.`,
    { param: "expect", details: { current } },
  );
}

function versionOf(adapter: Adapter, wanted: number): AdapterVersion {
  const found = adapter.versions.find(({ version }) => version === wanted);
  if (found) return found;
  throw new HubError("not_found", `'${adapter.name}' has no version ${wanted}.`, {
    param: "version",
  });
}

async function point(
  { tx, record }: Change,
  adapter: Adapter,
  alias: string,
  { version, digest }: AdapterVersion,
  { type, reason, forced }: { type: string; reason: string; forced: boolean },
): Promise<void> {
  await tx
    .insert(aliases)
    .values({ adapterId: adapter.id, alias, version })
    .onConflictDoUpdate({ target: [aliases.adapterId, aliases.alias], set: { version } });
  const from = aliasTarget(adapter, alias);
  await record({
    type,
    subject: adapter.id,
    projectId: adapter.projectId,
    detail: { alias, from, to: version, digest, reason, ...(forced && { forced }) },
  });
}
