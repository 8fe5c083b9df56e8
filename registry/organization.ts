/** What holds for all projects together. */
import type { DeclareOrganization } from "../sdk/protocol/admin.ts";
import type { Organization } from "../sdk/protocol/catalog.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Caller } from "./identity.ts";
import { sameJson } from "./same-json.ts";
import { organizations } from "./schema.ts";

/**
 * Declares all of it but the alerts of spending, which stay; the same again changes nothing.
 * @throws HubError `permission_denied` for a person who sees to spending alone and would change what people's own keys
 *   may be
 */
export async function declareOrganization(
  change: Change,
  caller: Caller,
  { budgets, ownKeys: asked }: DeclareOrganization,
): Promise<Organization> {
  const { spendAlerts, ownKeys: before } = await getOrganization(change.tx);
  const ownKeys = asked === undefined ? before : (asked ?? undefined);
  const isAdmin = caller.type !== "user" || ["admin", "owner"].includes(caller.user.role);
  if (!isAdmin && !sameJson(ownKeys ?? null, before ?? null)) {
    throw new HubError("permission_denied", "Only admins and owners may change 'ownKeys'.", {
      param: "ownKeys",
    });
  }
  return setOrganization(change, {
    budgets,
    ...(ownKeys && { ownKeys }),
    ...(spendAlerts && { spendAlerts }),
  });
}

/** All of it. */
export async function setOrganization(
  { tx, record }: Change,
  input: Organization,
): Promise<Organization> {
  if (sameJson(await getOrganization(tx), input)) return input;
  const { budgets, spendAlerts = null, ownKeys = null } = input;
  const row = { budgets, spendAlerts, ownKeys };
  await tx
    .insert(organizations)
    .values({ id: "organization", ...row })
    .onConflictDoUpdate({ target: organizations.id, set: row });
  await record({
    type: "organization.updated",
    subject: "organization",
    projectId: null,
    detail: { ...input },
  });
  return input;
}

export async function getOrganization(db: Queryable): Promise<Organization> {
  const [row] = await db.select().from(organizations);
  return {
    budgets: row?.budgets ?? [],
    ...(row?.spendAlerts && { spendAlerts: row.spendAlerts }),
    ...(row?.ownKeys && { ownKeys: row.ownKeys }),
  };
}
