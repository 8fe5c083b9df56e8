/** The operations of `/v1/organization` that manage: projects, accounts, keys, limits and people. */
import { z } from "zod";
import * as organization from "../organization.ts";
import { listOf, page } from "./lists.ts";
import { databaseCodes, json, type Operation } from "./operation.ts";

const root = "/v1/organization";
const ofProject = `${root}/projects/{id}`;
const changed = [...databaseCodes, "not_found", "already_exists"] as const;
const gone = json("That it is gone.", organization.deleted);

type Told = Pick<Operation, "method" | "path" | "id" | "summary"> & {
  answer: z.ZodType;
} & Partial<Pick<Operation, "body" | "query">>;

/** All want an admin's key, answer 200 and may find nothing. */
function managed({ answer, ...told }: Told): Operation {
  const answers = { 200: answer === organization.deleted ? gone : json("As it is now.", answer) };
  return { ...told, tag: "Organization", access: "admin", answers, codes: changed };
}

const account = "{account}";
const filters = z.object({
  ...page,
  before: z.string().max(256).optional(),
  event_types: z.array(z.string()).optional(),
  actor_ids: z.array(z.string()).optional(),
  actor_emails: z.array(z.string()).optional(),
  project_ids: z.array(z.string()).optional(),
  resource_ids: z.array(z.string()).optional(),
  "effective_at[gt]": z.int().optional(),
  "effective_at[gte]": z.int().optional(),
  "effective_at[lt]": z.int().optional(),
  "effective_at[lte]": z.int().optional(),
});

const alertBody = {
  schema: organization.writeSpendAlert,
  example: {
    currency: "USD",
    interval: "month",
    threshold_amount: 8_000,
    notification_channel: { type: "email", recipients: ["ops@example.com"] },
  },
};
/** The same of a project and of the organisation. */
const spendAlerts = [
  { at: `${ofProject}/spend_alerts`, whose: "project", Whose: "Project" },
  { at: `${root}/spend_alerts`, whose: "organisation", Whose: "Organization" },
].flatMap(({ at, whose, Whose }): Told[] => [
  {
    method: "get",
    path: at,
    id: `list${Whose}SpendAlerts`,
    summary: `Amounts of a month's spending that are told of the ${whose}`,
    query: z.object({
      ...page,
      before: z.string().max(64).optional(),
      order: z.enum(["asc", "desc"]).optional(),
    }),
    answer: listOf(organization.organizationSpendAlert),
  },
  {
    method: "post",
    path: at,
    id: `create${Whose}SpendAlert`,
    summary: "Has an amount told, in cents, by the alerts of budgets",
    body: alertBody,
    answer: organization.organizationSpendAlert,
  },
  {
    method: "get",
    path: `${at}/{alert}`,
    id: `get${Whose}SpendAlert`,
    summary: "A spend alert",
    answer: organization.organizationSpendAlert,
  },
  {
    method: "post",
    path: `${at}/{alert}`,
    id: `update${Whose}SpendAlert`,
    summary: "Changes a spend alert",
    body: alertBody,
    answer: organization.organizationSpendAlert,
  },
  {
    method: "delete",
    path: `${at}/{alert}`,
    id: `delete${Whose}SpendAlert`,
    summary: "Removes a spend alert",
    answer: organization.deleted,
  },
]);

export const organizationOperations: readonly Operation[] = (
  [
    {
      method: "get",
      path: `${root}/projects`,
      id: "listOrganizationProjects",
      summary: "Projects, as OpenAI lists them",
      query: z.object({ ...page, include_archived: z.enum(["true", "false"]).optional() }),
      answer: listOf(organization.organizationProject),
    },
    {
      method: "post",
      path: `${root}/projects`,
      id: "createOrganizationProject",
      summary: "Makes a project",
      body: { schema: organization.createOrganizationProject, example: { name: "told" } },
      answer: organization.organizationProject,
    },
    {
      method: "get",
      path: ofProject,
      id: "getOrganizationProject",
      summary: "A project",
      answer: organization.organizationProject,
    },
    {
      method: "post",
      path: ofProject,
      id: "updateOrganizationProject",
      summary: "Changes a project's name",
      body: { schema: organization.updateOrganizationProject, optional: true },
      answer: organization.organizationProject,
    },
    {
      method: "post",
      path: `${ofProject}/archive`,
      id: "archiveOrganizationProject",
      summary: "Archives a project; its keys are refused from then on",
      answer: organization.organizationProject,
    },
    {
      method: "get",
      path: `${ofProject}/service_accounts`,
      id: "listServiceAccounts",
      summary: "Service accounts of a project",
      query: z.object(page),
      answer: listOf(organization.serviceAccount),
    },
    {
      method: "post",
      path: `${ofProject}/service_accounts`,
      id: "createServiceAccount",
      summary: "Makes a service account, and its first key",
      body: { schema: organization.createServiceAccount, example: { name: "crawler" } },
      answer: organization.createdServiceAccount,
    },
    {
      method: "get",
      path: `${ofProject}/service_accounts/${account}`,
      id: "getServiceAccount",
      summary: "A service account",
      answer: organization.serviceAccount,
    },
    {
      method: "post",
      path: `${ofProject}/service_accounts/${account}`,
      id: "updateServiceAccount",
      summary: "Changes a service account",
      body: { schema: organization.updateServiceAccount, optional: true },
      answer: organization.serviceAccount,
    },
    {
      method: "delete",
      path: `${ofProject}/service_accounts/${account}`,
      id: "deleteServiceAccount",
      summary: "Deletes a service account and revokes its keys",
      answer: organization.deleted,
    },
    {
      method: "post",
      path: `${ofProject}/service_accounts/${account}/api_keys`,
      id: "createServiceAccountKey",
      summary: "Makes a key for a service account; the only time that it is shown",
      body: { schema: organization.createServiceAccountKey, optional: true },
      answer: organization.serviceAccountKey,
    },
    {
      method: "get",
      path: `${ofProject}/api_keys`,
      id: "listProjectApiKeys",
      summary: "Keys of a project",
      query: z.object(page),
      answer: listOf(organization.projectApiKey),
    },
    {
      method: "get",
      path: `${ofProject}/api_keys/{key}`,
      id: "getProjectApiKey",
      summary: "A key of a project",
      answer: organization.projectApiKey,
    },
    {
      method: "post",
      path: `${ofProject}/api_keys/{key}`,
      id: "updateProjectApiKey",
      summary: "Changes when a key of a project ends",
      body: { schema: organization.updateOrganizationKey, optional: true },
      answer: organization.projectApiKey,
    },
    {
      method: "delete",
      path: `${ofProject}/api_keys/{key}`,
      id: "deleteProjectApiKey",
      summary: "Revokes a key of a project",
      answer: organization.deleted,
    },
    {
      method: "get",
      path: `${ofProject}/rate_limits`,
      id: "listProjectRateLimits",
      summary: "Rate limits of a project, one for each model",
      query: z.object(page),
      answer: listOf(organization.projectRateLimit),
    },
    {
      method: "post",
      path: `${ofProject}/rate_limits/{limit}`,
      id: "updateProjectRateLimit",
      summary: "Limits a project at one model",
      body: { schema: organization.updateRateLimit, optional: true },
      answer: organization.projectRateLimit,
    },
    {
      method: "get",
      path: `${ofProject}/spend_limit`,
      id: "getProjectSpendLimit",
      summary: "A project's budget by month",
      answer: organization.spendLimit,
    },
    {
      method: "post",
      path: `${ofProject}/spend_limit`,
      id: "updateProjectSpendLimit",
      summary: "Sets a project's budget by month, in cents",
      body: {
        schema: organization.updateSpendLimit,
        example: { currency: "USD", interval: "month", threshold_amount: 10_000 },
      },
      answer: organization.spendLimit,
    },
    {
      method: "delete",
      path: `${ofProject}/spend_limit`,
      id: "deleteProjectSpendLimit",
      summary: "Removes a project's budget by month",
      answer: organization.deleted,
    },
    {
      method: "get",
      path: `${root}/spend_limit`,
      id: "getOrganizationSpendLimit",
      summary: "The organisation's budget by month",
      answer: organization.spendLimit,
    },
    {
      method: "post",
      path: `${root}/spend_limit`,
      id: "updateOrganizationSpendLimit",
      summary: "Sets the organisation's budget by month, in cents",
      body: {
        schema: organization.updateSpendLimit,
        example: { currency: "USD", interval: "month", threshold_amount: 10_000 },
      },
      answer: organization.spendLimit,
    },
    {
      method: "delete",
      path: `${root}/spend_limit`,
      id: "deleteOrganizationSpendLimit",
      summary: "Removes the organisation's budget by month",
      answer: organization.deleted,
    },
    {
      method: "get",
      path: `${root}/admin_api_keys`,
      id: "listAdminApiKeys",
      summary: "Admin keys",
      query: z.object(page),
      answer: listOf(organization.adminApiKey),
    },
    {
      method: "post",
      path: `${root}/admin_api_keys`,
      id: "createAdminApiKey",
      summary: "Makes an admin key; the only time that it is shown",
      body: { schema: organization.createAdminApiKey, example: { name: "terraform" } },
      answer: organization.createdAdminApiKey,
    },
    {
      method: "get",
      path: `${root}/admin_api_keys/{key}`,
      id: "getAdminApiKey",
      summary: "An admin key",
      answer: organization.adminApiKey,
    },
    {
      method: "delete",
      path: `${root}/admin_api_keys/{key}`,
      id: "deleteAdminApiKey",
      summary: "Revokes an admin key",
      answer: organization.deleted,
    },
    {
      method: "get",
      path: `${root}/users`,
      id: "listUsers",
      summary: "People who have logged in",
      query: z.object({ ...page, emails: z.array(z.string()).optional() }),
      answer: listOf(organization.organizationUser),
    },
    {
      method: "get",
      path: `${root}/users/{user}`,
      id: "getUser",
      summary: "A person",
      answer: organization.organizationUser,
    },
    {
      method: "post",
      path: `${root}/users/{user}`,
      id: "updateUser",
      summary: "Gives a person a role, or ends and restores their access",
      body: { schema: organization.updateUser, example: { role: "viewer" } },
      answer: organization.organizationUser,
    },
    {
      method: "delete",
      path: `${root}/users/{user}`,
      id: "deleteUser",
      summary: "Ends a person's sessions and keys",
      answer: organization.deleted,
    },
    {
      method: "get",
      path: `${ofProject}/users`,
      id: "listProjectUsers",
      summary: "Members of a project",
      query: z.object(page),
      answer: listOf(organization.projectUser),
    },
    {
      method: "post",
      path: `${ofProject}/users`,
      id: "addProjectUser",
      summary: "Makes a person a member of a project",
      body: {
        schema: organization.addProjectUser,
        example: { role: "member", email: "nobody@example.com" },
      },
      answer: organization.projectUser,
    },
    {
      method: "get",
      path: `${ofProject}/users/{user}`,
      id: "getProjectUser",
      summary: "A member of a project",
      answer: organization.projectUser,
    },
    {
      method: "post",
      path: `${ofProject}/users/{user}`,
      id: "updateProjectUser",
      summary: "Gives a member another role in the project",
      body: { schema: organization.updateProjectUser, optional: true, example: { role: "owner" } },
      answer: organization.projectUser,
    },
    {
      method: "delete",
      path: `${ofProject}/users/{user}`,
      id: "removeProjectUser",
      summary: "Ends a membership, and the member's keys of that project",
      answer: organization.deleted,
    },
    ...spendAlerts,
    {
      method: "get",
      path: `${root}/invites`,
      id: "listInvites",
      summary: "Invitations",
      query: z.object(page),
      answer: listOf(organization.invite),
    },
    {
      method: "post",
      path: `${root}/invites`,
      id: "createInvite",
      summary: "Expects somebody: who logs in with that address takes the invitation",
      body: {
        schema: organization.createInvite,
        example: { email: "new@example.com", role: "reader", projects: [] },
      },
      answer: organization.invite,
    },
    {
      method: "get",
      path: `${root}/invites/{invite}`,
      id: "getInvite",
      summary: "An invitation",
      answer: organization.invite,
    },
    {
      method: "delete",
      path: `${root}/invites/{invite}`,
      id: "deleteInvite",
      summary: "Takes an invitation back that nobody took",
      answer: organization.deleted,
    },
    {
      method: "get",
      path: `${root}/audit_logs`,
      id: "listAuditLogs",
      summary: "Who changed what, when and from where, the newest first",
      query: filters,
      answer: listOf(organization.auditLog),
    },
  ] satisfies Told[]
).map(managed);
