/** `/v1/organization`: people, members of projects, invitations, and what everybody did. */
import type { Hono } from "hono";
import * as organization from "../../sdk/protocol/organization.ts";
import type { AppParts } from "../app.ts";
import { toList } from "../http/list.ts";
import { change, type Env, pageOf } from "../http/request.ts";
import {
  createInvite,
  deleteInvite,
  getInvite,
  listInvites,
  requireMayInvite,
} from "../people/invites.ts";
import {
  getMember,
  listMembers,
  membershipsOf,
  personByEmail,
  removeMember,
  setMember,
} from "../people/members.ts";
import {
  deleteUser,
  getUser,
  giveRole,
  lastKeyUse,
  listUsers,
  setEnabled,
  type User,
} from "../people/users.ts";
import { gone, ofProject, read, root } from "./address.ts";
import { listAuditLogs } from "./audit-logs.ts";
import { toInvite, toOrganizationUser, toProjectUser } from "./shapes.ts";

export function addPeople(app: Hono<Env>, parts: AppParts): void {
  addUsers(app, parts);
  addMembers(app, parts);
  addInvites(app, parts);
  app.get(`${root}/audit_logs`, async (context) =>
    context.json(await listAuditLogs(parts.db, context.req.url, parts.limits.pageSizeMax)),
  );
}

function addUsers(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  const toPeople = async (people: readonly User[]) => {
    const ids = people.map(({ id }) => id);
    const [projects, used] = [await membershipsOf(db, ids), await lastKeyUse(db, ids)];
    return people.map((user) =>
      toOrganizationUser(user, {
        projects: projects.get(user.id) ?? [],
        keyUsedAt: used.get(user.id),
      }),
    );
  };
  const toPerson = async (user: User) => (await toPeople([user]))[0];
  app.get(`${root}/users`, async (context) => {
    const page = pageOf(context, limits);
    const emails = [
      ...(context.req.queries("emails") ?? []),
      ...(context.req.queries("emails[]") ?? []),
    ];
    return context.json(toList(await toPeople(await listUsers(db, emails, page)), page));
  });
  app.get(`${root}/users/:user`, async (context) =>
    context.json(await toPerson(await getUser(db, context.req.param("user")))),
  );
  app.post(`${root}/users/:user`, async (context) => {
    const { role, enabled } = await read(context, parts, organization.updateUser);
    const id = context.req.param("user");
    const changed = await change(context, parts, async (it) => {
      if (role !== undefined) await giveRole(it, id, role);
      if (enabled !== undefined) await setEnabled(it, id, enabled);
      return getUser(it.tx, id);
    });
    return context.json(await toPerson(changed));
  });
  app.delete(`${root}/users/:user`, async (context) => {
    const user = context.req.param("user");
    await change(context, parts, (it) => deleteUser(it, user));
    return context.json(gone("organization.user", user));
  });
}

function addMembers(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  const all = `${ofProject}/users`;
  const one = `${all}/:user`;
  app.get(all, async (context) => {
    const page = pageOf(context, limits);
    const members = await listMembers(db, context.req.param("id"), page);
    return context.json(toList(members.map(toProjectUser), page));
  });
  app.post(all, async (context) => {
    const { role, user_id, email } = await read(context, parts, organization.addProjectUser);
    const made = await change(context, parts, async (it) => {
      const user =
        email == null ? await getUser(it.tx, user_id ?? "") : await personByEmail(it.tx, email);
      return setMember(it, context.req.param("id"), { user, role });
    });
    return context.json(toProjectUser(made));
  });
  app.get(one, async (context) => {
    const { id, user } = context.req.param();
    return context.json(toProjectUser(await getMember(db, id, user)));
  });
  app.post(one, async (context) => {
    const { role } = await read(context, parts, organization.updateProjectUser);
    const { id, user } = context.req.param();
    const changed = await change(context, parts, async (it) => {
      const member = await getMember(it.tx, id, user);
      return setMember(it, id, { user: member.user, role: role ?? member.role });
    });
    return context.json(toProjectUser(changed));
  });
  app.delete(one, async (context) => {
    const { id, user } = context.req.param();
    await change(context, parts, (it) => removeMember(it, id, user));
    return context.json(gone("organization.project.user", user));
  });
}

function addInvites(app: Hono<Env>, parts: AppParts): void {
  const { db, limits, now } = parts;
  app.get(`${root}/invites`, async (context) => {
    const page = pageOf(context, limits);
    const rows = await listInvites(db, page);
    return context.json(
      toList(
        rows.map((row) => toInvite(row, now())),
        page,
      ),
    );
  });
  app.post(`${root}/invites`, async (context) => {
    const body = await read(context, parts, organization.createInvite);
    requireMayInvite(context.var.caller, body.role);
    const bounds = { days: limits.inviteDays, pendingMax: limits.invitesPendingMax };
    const made = await change(context, parts, (it) => createInvite(it, body, bounds));
    return context.json(toInvite(made, now()));
  });
  app.get(`${root}/invites/:invite`, async (context) =>
    context.json(toInvite(await getInvite(db, context.req.param("invite")), now())),
  );
  app.delete(`${root}/invites/:invite`, async (context) => {
    const id = context.req.param("invite");
    await change(context, parts, (it) => deleteInvite(it, id));
    return context.json(gone("organization.invite", id));
  });
}
