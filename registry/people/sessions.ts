/** Sessions of people: opened by a gateway that saw them log in, known by the hash of a token. */
import { and, asc, eq, gt, lte, or } from "drizzle-orm";
import type { z } from "zod";
import type { openSession as openSchema, SessionOpened } from "../../sdk/protocol/admin.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId, type Sha256 } from "../../sdk/protocol/ids.ts";
import type { Role } from "../../sdk/protocol/roles.ts";
import { isSessionToken, newSessionToken } from "../../sdk/protocol/session-token.ts";
import type { ChangeLog } from "../change.ts";
import type { Database, Queryable, Transaction } from "../db.ts";
import { hashKey } from "../keys.ts";
import { sessions, usedLoginCodes, users } from "../schema.ts";
import { type Invite, pendingOf, takeInvite } from "./invites.ts";
import { type Membership, membershipsOf } from "./members.ts";
import type { User } from "./users.ts";

/** `operatorKey` signs the tokens. */
type SessionParts = {
  db: Database;
  changes: ChangeLog;
  operatorKey: string;
  now: () => number;
};

/**
 * Makes the person known, with the role that the provider's claims stand for unless one was given here, takes the
 * invitation that waits for them, and opens a session. Of too many the oldest end.
 * @throws HubError `permission_denied` for who is disabled, who is in no group and was not invited, and whose code was used
 */
export async function openSession(
  { db, changes, operatorKey, now }: SessionParts,
  { hours, role: byGroups, emailVerified, loginCode, ...who }: z.infer<typeof openSchema>,
  { address, sessionsMax }: { address: string | undefined; sessionsMax: number },
): Promise<SessionOpened> {
  const bySubject = and(eq(users.issuer, who.issuer), eq(users.subject, who.subject));
  const [known] = await db.select().from(users).where(bySubject);
  const actor = known?.id ?? newId("user", now());
  const token = await newSessionToken(operatorKey);
  return changes.change({ actor, address }, async (change) => {
    const { tx, at, record } = change;
    if (loginCode !== undefined) await useLoginCode(tx, loginCode, at);
    const [before] = await tx.select().from(users).where(bySubject);
    const invite =
      emailVerified && who.email !== undefined ? await pendingOf(tx, who.email, at) : undefined;
    const { role, ...kept } = roleOf(before, byGroups, invite);
    const told = {
      email: who.email ?? null,
      emailVerified: emailVerified && who.email !== undefined,
      name: who.name ?? null,
      lastLoginAt: at,
    };
    const [user] = await tx
      .insert(users)
      .values({ ...who, ...told, ...kept, id: actor, role, createdAt: at })
      .onConflictDoUpdate({
        target: [users.issuer, users.subject],
        set: { ...told, ...kept, role },
      })
      .returning();
    if (!user) throw new Error("the insert returned no row");
    const detail = { role: user.role, ...(user.email !== null && { email: user.email }) };
    const event = { subject: user.id, projectId: null, detail };
    if (!before) await record({ ...event, type: "user.added" });
    else if (before.role !== user.role) await record({ ...event, type: "user.updated" });
    await record({ ...event, type: "login.succeeded" });
    if (invite) await takeInvite(change, invite, user);

    await tx.delete(sessions).where(lte(sessions.expiresAt, at));
    const open = await tx
      .select({ hash: sessions.hash })
      .from(sessions)
      .where(eq(sessions.userId, user.id))
      .orderBy(asc(sessions.createdAt));
    for (const { hash } of open.slice(0, Math.max(0, open.length - sessionsMax + 1))) {
      await tx.delete(sessions).where(eq(sessions.hash, hash));
    }
    const expiresAt = new Date(at.getTime() + hours * hourMs);
    await tx
      .insert(sessions)
      .values({ hash: hashKey(token), userId: user.id, createdAt: at, rotatedAt: at, expiresAt });
    return { token, expiresAt: expiresAt.toISOString() };
  });
}

/** @throws HubError `permission_denied` */
async function useLoginCode(tx: Transaction, code: string, at: Date): Promise<void> {
  await tx
    .delete(usedLoginCodes)
    .where(lte(usedLoginCodes.usedAt, new Date(at.getTime() - usedCodeMs)));
  const used = await tx
    .insert(usedLoginCodes)
    .values({ code, usedAt: at })
    .onConflictDoNothing()
    .returning();
  if (used.length > 0) return;
  throw new HubError("permission_denied", "This login code was used already. Log in again.");
}

/** @throws HubError `permission_denied` */
function roleOf(before: User | undefined, byGroups: Role | undefined, invite: Invite | undefined) {
  if (before?.disabledAt != null) {
    throw new HubError("permission_denied", "An administrator has ended your access.");
  }
  const invited = before?.invited === true || invite !== undefined;
  const invitedRole = invite?.role ?? before?.invitedRole ?? null;
  if (byGroups === undefined && !invited) {
    throw new HubError(
      "permission_denied",
      "You are in none of the groups that may use this Switchyard, and no invitation waits for you. Ask an administrator.",
    );
  }
  const came = { invited, invitedRole };
  if (before?.roleKept) return { role: before.role, roleKept: true, ...came };
  // An invitation gives a newcomer their role; who is known already keeps the one that their groups stand for.
  if (invite && !before) return { role: invite.role, roleKept: true, ...came };
  // Who left their groups keeps nothing of what these stood for.
  return { role: byGroups ?? invitedRole ?? "viewer", roleKept: false, ...came };
}

export type Person = { user: User; projects: Membership[] };

/** Whose session it is, as long as it lasts. */
export async function personOf(
  { db, operatorKey }: { db: Queryable; operatorKey: string },
  token: string,
  nowMs: number,
): Promise<Person | undefined> {
  if (!(await isSessionToken(token, operatorKey))) return undefined;
  const [row] = await db
    .select({ user: users })
    .from(sessions)
    .innerJoin(users, eq(users.id, sessions.userId))
    .where(lasting(hashKey(token), new Date(nowMs)));
  if (!row || row.user.disabledAt !== null) return undefined;
  const projects = (await membershipsOf(db, [row.user.id])).get(row.user.id) ?? [];
  return { user: row.user, projects };
}

/** A new token for the same session; the old one is good for a moment, for requests that are under way. */
export async function rotateSession(
  { db, operatorKey, now }: SessionParts,
  token: string,
): Promise<SessionOpened | undefined> {
  const at = new Date(now());
  const next = await newSessionToken(operatorKey);
  const [row] = await db
    .update(sessions)
    .set({
      hash: hashKey(next),
      previousHash: hashKey(token),
      previousUntil: new Date(at.getTime() + overlapMs),
      rotatedAt: at,
    })
    // By its newest token alone: who has only the one before cannot prolong it.
    .where(and(eq(sessions.hash, hashKey(token)), gt(sessions.expiresAt, at)))
    .returning({ expiresAt: sessions.expiresAt });
  return row && { token: next, expiresAt: row.expiresAt.toISOString() };
}

/** Ending what has ended changes nothing. */
export async function endSession(
  parts: SessionParts,
  token: string,
  address: string | undefined,
): Promise<void> {
  const { changes, now } = parts;
  const person = await personOf(parts, token, now());
  if (!person) return;
  const { user } = person;
  await changes.change({ actor: user.id, address }, async ({ tx, record }) => {
    const hash = hashKey(token);
    await tx.delete(sessions).where(or(eq(sessions.hash, hash), eq(sessions.previousHash, hash)));
    await record({ type: "logout.succeeded", subject: user.id, projectId: null });
  });
}

function lasting(hash: Sha256, at: Date) {
  const previous = and(eq(sessions.previousHash, hash), gt(sessions.previousUntil, at));
  return and(or(eq(sessions.hash, hash), previous), gt(sessions.expiresAt, at));
}

const hourMs = 3_600_000;
const overlapMs = 30_000;
/** A gateway takes a code for five minutes by its own clock. */
const usedCodeMs = 24 * hourMs;
