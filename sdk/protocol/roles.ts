/** Roles of people, and what each may do: the one table that the registry and the gateway's door ask. */
import { z } from "zod";

export const role = z.enum(["owner", "admin", "developer", "finance", "viewer"]);
export type Role = z.infer<typeof role>;

/** Sessions' tokens begin with it, and no API key does. */
export const sessionPrefix = "sys_";

const everyone = ["viewer", "finance", "developer", "admin", "owner"] as const;
const builders = ["developer", "admin", "owner"] as const;
const spenders = ["finance", "admin", "owner"] as const;
const admins = ["admin", "owner"] as const;
/** What would let somebody become more than they are. */
const owners = ["owner"] as const;

const project = "/v1/organization/projects/:id";

/** By address as routers write it. What is not listed no person may do. */
export const permissions: Readonly<Record<string, readonly Role[]>> = {
  "GET /api/whoami": everyone,
  "GET /api/organization": everyone,
  "PUT /api/organization": spenders,
  "GET /api/projects": everyone,
  "GET /api/projects/:id": everyone,
  "POST /api/projects": admins,
  "PATCH /api/projects/:id": admins,
  "GET /api/keys": builders,
  "POST /api/keys": owners,
  // One's own, in projects that one is a member of.
  "GET /api/me/keys": everyone,
  "POST /api/me/keys": everyone,
  "POST /api/me/keys/:id/rotate": everyone,
  "DELETE /api/me/keys/:id": everyone,
  "POST /api/keys/:id/rotate": owners,
  "DELETE /api/keys/:id": owners,
  "GET /api/models": everyone,
  "GET /api/models/:id": everyone,
  "PUT /api/models/:id": admins,
  "GET /api/routes": everyone,
  "GET /api/routes/:name": everyone,
  "PUT /api/routes/:name": builders,
  "GET /api/prices": everyone,
  "POST /api/prices": spenders,
  "GET /api/adapters": everyone,
  "POST /api/adapters": builders,
  "GET /api/adapters/:id": everyone,
  "GET /api/adapters/:id/history": everyone,
  "PUT /api/adapters/:id/aliases/:alias": builders,
  "POST /api/adapters/:id/aliases/:alias/rollback": builders,
  "GET /api/measurements": everyone,
  "GET /api/events": admins,
  "GET /api/reports/costs": everyone,
  "GET /api/budgets": everyone,
  "GET /api/budgets/alerts": everyone,
  "GET /api/requests": builders,
  "GET /api/requests/stream": builders,
  "GET /api/requests/:id": builders,
  "GET /api/requests/:id/content": admins,
  "DELETE /api/requests/:id/content": admins,
  "DELETE /api/contents": admins,
  // Of a project that is named; a project's key names none.
  "DELETE /api/cache": admins,
  "GET /api/datasets": builders,
  "GET /api/datasets/:sha256": builders,
  "GET /api/evals/runs": everyone,
  "GET /api/evals/runs/:id": everyone,
  "GET /api/evals/runs/:id/results": builders,
  "GET /v1/organization/usage/completions": everyone,
  "GET /v1/organization/usage/embeddings": everyone,
  "GET /v1/organization/usage/moderations": everyone,
  "GET /v1/organization/usage/images": everyone,
  "GET /v1/organization/usage/audio_speeches": everyone,
  "GET /v1/organization/usage/audio_transcriptions": everyone,
  "GET /v1/organization/costs": everyone,
  "GET /v1/organization/projects": everyone,
  "POST /v1/organization/projects": admins,
  [`GET ${project}`]: everyone,
  [`POST ${project}`]: admins,
  [`POST ${project}/archive`]: admins,
  [`GET ${project}/service_accounts`]: builders,
  [`POST ${project}/service_accounts`]: builders,
  [`GET ${project}/service_accounts/:account`]: builders,
  [`POST ${project}/service_accounts/:account`]: admins,
  [`DELETE ${project}/service_accounts/:account`]: admins,
  [`POST ${project}/service_accounts/:account/api_keys`]: builders,
  [`GET ${project}/api_keys`]: builders,
  [`GET ${project}/api_keys/:key`]: builders,
  [`POST ${project}/api_keys/:key`]: admins,
  [`DELETE ${project}/api_keys/:key`]: admins,
  [`GET ${project}/users`]: admins,
  [`POST ${project}/users`]: admins,
  [`GET ${project}/users/:user`]: admins,
  [`POST ${project}/users/:user`]: admins,
  [`DELETE ${project}/users/:user`]: admins,
  [`GET ${project}/rate_limits`]: everyone,
  [`POST ${project}/rate_limits/:limit`]: admins,
  [`GET ${project}/spend_limit`]: everyone,
  [`POST ${project}/spend_limit`]: spenders,
  [`DELETE ${project}/spend_limit`]: spenders,
  [`GET ${project}/spend_alerts`]: everyone,
  [`POST ${project}/spend_alerts`]: spenders,
  [`GET ${project}/spend_alerts/:alert`]: everyone,
  [`POST ${project}/spend_alerts/:alert`]: spenders,
  [`DELETE ${project}/spend_alerts/:alert`]: spenders,
  "GET /v1/organization/spend_alerts": everyone,
  "POST /v1/organization/spend_alerts": spenders,
  "GET /v1/organization/spend_alerts/:alert": everyone,
  "POST /v1/organization/spend_alerts/:alert": spenders,
  "DELETE /v1/organization/spend_alerts/:alert": spenders,
  "GET /v1/organization/spend_limit": everyone,
  "POST /v1/organization/spend_limit": spenders,
  "DELETE /v1/organization/spend_limit": spenders,
  "GET /v1/organization/admin_api_keys": owners,
  "POST /v1/organization/admin_api_keys": owners,
  "GET /v1/organization/admin_api_keys/:key": owners,
  "DELETE /v1/organization/admin_api_keys/:key": owners,
  "GET /v1/organization/users": admins,
  "GET /v1/organization/users/:user": admins,
  "POST /v1/organization/users/:user": owners,
  "DELETE /v1/organization/users/:user": owners,
  "GET /v1/organization/invites": admins,
  "POST /v1/organization/invites": admins,
  "GET /v1/organization/invites/:invite": admins,
  "DELETE /v1/organization/invites/:invite": admins,
  "GET /v1/organization/audit_logs": admins,
};

/** What owners of a project may do there beside what their role allows: see to its members and their keys. */
const projectOwnersMay: ReadonlySet<string> = new Set([
  `GET ${project}/users`,
  `POST ${project}/users`,
  `GET ${project}/users/:user`,
  `POST ${project}/users/:user`,
  `DELETE ${project}/users/:user`,
  `GET ${project}/api_keys`,
  `GET ${project}/api_keys/:key`,
  `DELETE ${project}/api_keys/:key`,
]);

/** Who asks: a role in the organisation, and one in each project that they are a member of. */
export type Member = {
  role: Role;
  projects: readonly { id: string; role: "member" | "owner" }[];
};

/** @param path of the request, without its query */
export function mayCall({ role, projects }: Member, method: string, path: string): boolean {
  const asked = method === "HEAD" ? "GET" : method;
  const rule = rules.find((it) => it.method === asked && it.path.test(path));
  if (rule === undefined) return false;
  if (rule.roles.includes(role)) return true;
  const [, id] = rule.path.exec(path) ?? [];
  return rule.projectOwners && projects.some((it) => it.id === id && it.role === "owner");
}

const rules = Object.entries(permissions).map(([route, roles]) => {
  const [method = "", pattern = ""] = route.split(" ");
  return {
    method,
    roles,
    projectOwners: projectOwnersMay.has(route),
    path: new RegExp(`^${pattern.replace(/:\w+/g, "([^/]+)")}$`),
  };
});
