/** The registry's events as OpenAI's audit log: the newest first, each with who did it and from where. */
import { and, desc, gt, gte, inArray, lt, sql } from "drizzle-orm";
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { ProjectId, UserId } from "../../sdk/protocol/ids.ts";
import type { Queryable } from "../db.ts";
import { type List, toList } from "../http/list.ts";
import { apiKeys, events, projects, users } from "../schema.ts";
import { seconds } from "./shapes.ts";

/** @param url with OpenAI's filters: `event_types[]=…`, `effective_at[gte]=…` @throws HubError for others */
export async function listAuditLogs(
  db: Queryable,
  url: string,
  pageSizeMax: number,
): Promise<List<{ id: string }>> {
  const query = parseOrThrow(auditQuery(pageSizeMax), readNested(url));
  const { effective_at: at = {} } = query;
  const moment = (second: number) => new Date(second * 1000);
  const emails = query.actor_emails && [...query.actor_emails];
  const found = await db
    .select()
    .from(events)
    .where(
      and(
        query.event_types && inArray(events.type, query.event_types.flatMap(toOwnTypes)),
        query.actor_ids && inArray(events.actor, query.actor_ids),
        emails &&
          inArray(
            events.actor,
            db
              .select({ id: sql<string>`${users.id}` })
              .from(users)
              .where(inArray(users.email, emails)),
          ),
        query.project_ids && inArray(events.projectId, query.project_ids as ProjectId[]),
        query.resource_ids && inArray(events.subject, query.resource_ids),
        at.gt === undefined ? undefined : gte(events.at, moment(at.gt + 1)),
        at.gte === undefined ? undefined : gte(events.at, moment(at.gte)),
        at.lt === undefined ? undefined : lt(events.at, moment(at.lt)),
        at.lte === undefined ? undefined : lt(events.at, moment(at.lte + 1)),
        query.after === undefined ? undefined : lt(events.id, query.after),
        query.before === undefined ? undefined : gt(events.id, query.before),
      ),
    )
    .orderBy(query.before === undefined ? desc(events.id) : events.id)
    .limit(query.limit + 1);
  const page = { limit: query.limit, after: undefined };
  const list = toList(found, page);
  if (query.before !== undefined) list.data.reverse();
  const known = await namesOf(db, list.data);
  return {
    ...toList(
      list.data.map((event) => toAuditLog(event, known)),
      page,
    ),
    has_more: list.has_more,
  };
}

type EventRow = typeof events.$inferSelect;
type Names = {
  projects: Map<string, string>;
  emails: Map<string, string | null>;
  owners: Map<string, string | null>;
};

function toAuditLog(event: EventRow, { projects, emails, owners }: Names) {
  const { actor, address, projectId, detail, subject } = event;
  const type = toOpenAiType(event.type);
  const user = (id: string) => ({ id, email: emails.get(id) ?? "" });
  const from = address === null ? {} : { ip_address: address };
  const owner = owners.get(actor);
  return {
    id: `audit_log-${event.id}`,
    object: "organization.audit_log",
    type,
    effective_at: seconds(event.at),
    ...(projectId !== null && {
      project: { id: projectId, name: projects.get(projectId) ?? "" },
    }),
    actor: actor.startsWith("user_")
      ? { type: "session" as const, session: { user: user(actor), ...from } }
      : {
          type: "api_key" as const,
          api_key: {
            id: actor,
            ...(owner?.startsWith("user_") && { type: "user", user: user(owner) }),
            ...(owner?.startsWith("svc_") && {
              type: "service_account",
              service_account: { id: owner },
            }),
            ...from,
          },
        },
    [type]: { id: subject, [type.endsWith(".updated") ? "changes_requested" : "data"]: detail },
  };
}

async function namesOf(db: Queryable, rows: readonly EventRow[]): Promise<Names> {
  const ids = new Set(rows.flatMap(({ projectId }) => projectId ?? []));
  const actors = [...new Set(rows.map(({ actor }) => actor))];
  const found = ids.size
    ? await db
        .select()
        .from(projects)
        .where(inArray(projects.id, [...ids]))
    : [];
  const keys = actors.length
    ? await db
        .select({ id: apiKeys.id, ownerId: apiKeys.ownerId })
        .from(apiKeys)
        .where(sql`${apiKeys.id} in ${actors}`)
    : [];
  const people = [...actors, ...keys.flatMap(({ ownerId }) => ownerId ?? [])].filter((id) =>
    id.startsWith("user_"),
  );
  const known = people.length
    ? await db
        .select()
        .from(users)
        .where(inArray(users.id, people as UserId[]))
    : [];
  return {
    projects: new Map(found.map(({ id, name }) => [id, name])),
    emails: new Map(known.map(({ id, email }) => [id, email])),
    owners: new Map(keys.map(({ id, ownerId }) => [id, ownerId])),
  };
}

/** Of our events, what OpenAI calls otherwise; what it has no word for keeps ours. */
const openAiTypes: Readonly<Record<string, string>> = {
  "key.created": "api_key.created",
  "key.rotated": "api_key.updated",
  "key.updated": "api_key.updated",
  "key.revoked": "api_key.deleted",
};
const toOpenAiType = (type: string): string => openAiTypes[type] ?? type;
const toOwnTypes = (type: string): string[] => [
  type,
  ...Object.keys(openAiTypes).filter((own) => openAiTypes[own] === type),
];

/** `a[]=1`, `a[0]=1` and `a=1` are lists, `a[gte]=1` is a field of an object. */
function readNested(url: string): Record<string, unknown> {
  const query: Record<string, unknown> = {};
  const lists = new Map<string, string[]>();
  const ranges = new Map<string, Record<string, string>>();
  for (const [key, value] of new URL(url).searchParams) {
    const [, name = key, inner] = /^(\w+)\[(\w*)\]$/.exec(key) ?? [];
    if (inner !== undefined && /^[a-z]+$/.test(inner)) {
      ranges.set(name, { ...ranges.get(name), [inner]: value });
    } else if (inner !== undefined || listNames.has(name)) {
      lists.set(name, [...(lists.get(name) ?? []), value]);
    } else query[name] = value;
  }
  return { ...query, ...Object.fromEntries(lists), ...Object.fromEntries(ranges) };
}

const texts = z.array(z.string().max(256)).min(1).max(100).optional();
const cursor = z
  .string()
  .regex(/^audit_log-\d{1,15}$/, "expected the id of an audit log")
  .transform((id) => Number(id.slice("audit_log-".length)))
  .optional();
/** 9999-12-31 in seconds: later moments have no ISO form that databases share. */
const second = z.coerce.number().pipe(z.int().min(0).max(253_402_300_799)).optional();
const filters = {
  event_types: texts,
  actor_ids: texts,
  actor_emails: texts,
  project_ids: texts,
  resource_ids: texts,
};
const listNames: ReadonlySet<string> = new Set(Object.keys(filters));
const auditQuery = (pageSizeMax: number) =>
  z.strictObject({
    ...filters,
    effective_at: z.strictObject({ gt: second, gte: second, lt: second, lte: second }).optional(),
    limit: z.coerce.number().int().min(1).max(pageSizeMax).default(Math.min(20, pageSizeMax)),
    after: cursor,
    before: cursor,
  });
