/** From rows to the objects of OpenAI's admin API. Moments are seconds since 1970; missing is null. */
import type { Invite } from "../people/invites.ts";
import type { Member, Membership } from "../people/members.ts";
import type { apiKeys, projects, serviceAccounts, users } from "../schema.ts";

type KeyRow = typeof apiKeys.$inferSelect;
type AccountRow = typeof serviceAccounts.$inferSelect;
type UserRow = typeof users.$inferSelect;
export type Owner = AccountRow | UserRow;

export const seconds = (at: Date): number => Math.floor(at.getTime() / 1000);
const secondsOrNull = (at: Date | null): number | null => at && seconds(at);

export function toOrganizationProject(row: typeof projects.$inferSelect) {
  return {
    id: row.id,
    object: "organization.project" as const,
    name: row.name,
    created_at: seconds(row.createdAt),
    archived_at: secondsOrNull(row.archivedAt),
    status: row.archived ? ("archived" as const) : ("active" as const),
  };
}

/** @param owner absent for a key that is the project's alone */
export function toProjectKey(row: KeyRow, owner: Owner | undefined) {
  return {
    id: row.id,
    object: "organization.project.api_key" as const,
    name: row.name,
    redacted_value: row.redacted ?? "***",
    created_at: seconds(row.createdAt),
    expires_at: secondsOrNull(row.expiresAt),
    last_used_at: secondsOrNull(row.lastUsedAt),
    owner: owner ? toOwner(owner) : {},
    owner_project_access: row.suspendedAt === null ? ("active" as const) : ("inactive" as const),
  };
}

export function toServiceAccount(row: AccountRow) {
  return {
    id: row.id,
    object: "organization.project.service_account" as const,
    name: row.name,
    role: row.role,
    created_at: seconds(row.createdAt),
  };
}

/** @param created a key as it was made, the only time that its text is told */
export function toServiceAccountKey(created: {
  id: string;
  name: string;
  key: string;
  createdAt: string;
  expiresAt?: string | undefined;
}) {
  return {
    id: created.id,
    object: "organization.project.service_account.api_key" as const,
    name: created.name,
    value: created.key,
    created_at: seconds(new Date(created.createdAt)),
    expires_at: created.expiresAt === undefined ? null : seconds(new Date(created.expiresAt)),
  };
}

export function toAdminKey(row: KeyRow) {
  return {
    id: row.id,
    object: "organization.admin_api_key" as const,
    name: row.name,
    redacted_value: row.redacted ?? "***",
    created_at: seconds(row.createdAt),
    expires_at: secondsOrNull(row.expiresAt),
    last_used_at: secondsOrNull(row.lastUsedAt),
    owner: { type: "service_account", id: row.id, name: row.name, role: "owner" },
  };
}

export function toOrganizationUser(
  row: UserRow,
  { projects, keyUsedAt }: { projects: readonly Membership[]; keyUsedAt: Date | undefined },
) {
  return {
    id: row.id,
    object: "organization.user" as const,
    email: row.email,
    name: row.name,
    role: row.role,
    added_at: seconds(row.createdAt),
    is_service_account: false,
    api_key_last_used_at: secondsOrNull(keyUsedAt ?? null),
    projects: { object: "list" as const, data: projects },
    user: {
      id: row.id,
      object: "user" as const,
      email: row.email,
      name: row.name,
      enabled: row.disabledAt === null,
    },
  };
}

export function toProjectUser({ user, role, addedAt }: Member) {
  return {
    id: user.id,
    object: "organization.project.user" as const,
    email: user.email,
    name: user.name,
    role,
    added_at: seconds(addedAt),
  };
}

export function toInvite(row: Invite, nowMs: number) {
  const expired = row.expiresAt.getTime() <= nowMs;
  return {
    id: row.id,
    object: "organization.invite" as const,
    email: row.email,
    // OpenAI's word for it.
    role: row.role === "viewer" ? ("reader" as const) : row.role,
    status: row.acceptedAt ? "accepted" : expired ? "expired" : "pending",
    created_at: seconds(row.createdAt),
    expires_at: seconds(row.expiresAt),
    accepted_at: secondsOrNull(row.acceptedAt),
    projects: row.projects,
  };
}

function toOwner(owner: Owner) {
  const { id, name, role } = owner;
  const told = { id, name: name ?? "", role, created_at: seconds(owner.createdAt) };
  return "issuer" in owner
    ? { type: "user" as const, user: { ...told, email: owner.email ?? "" } }
    : { type: "service_account" as const, service_account: told };
}
