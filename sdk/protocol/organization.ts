/** Bodies and answers of `/v1/organization`: OpenAI's admin API, as its official clients send and read them. */
import { z } from "zod";
import { role } from "./roles.ts";

const name = z.string().min(1).max(128);
const seconds = z.int().positive().max(3_155_760_000);

export const createOrganizationProject = z.strictObject({ name });
export const updateOrganizationProject = z.strictObject({ name: name.optional() });
export const updateOrganizationKey = z.strictObject({ expires_in_seconds: seconds.optional() });
export const createServiceAccount = z.strictObject({
  name,
  /** Makes no key with it. */
  create_service_account_only: z.boolean().nullish(),
  expires_in_seconds: seconds.nullish(),
});
export const updateServiceAccount = z.strictObject({
  name: name.optional(),
  role: z.enum(["member", "owner"]).optional(),
});
export const createServiceAccountKey = z.strictObject({
  name: name.optional(),
  expires_in_seconds: seconds.nullish(),
});
export const createAdminApiKey = z.strictObject({ name, expires_in_seconds: seconds.optional() });
const most = z.int().positive().max(1e15).optional();
export const updateRateLimit = z.strictObject({
  max_requests_per_1_minute: most,
  max_tokens_per_1_minute: most,
  max_requests_per_1_day: most,
});
export type UpdateRateLimit = z.infer<typeof updateRateLimit>;
export const updateSpendLimit = z.strictObject({
  currency: z.literal("USD"),
  interval: z.literal("month"),
  /** Cents. */
  threshold_amount: z.int().positive().max(1e13),
});
const spendAlertBody = {
  currency: z.literal("USD"),
  interval: z.literal("month"),
  /** Cents. */
  threshold_amount: z.int().positive().max(1e13),
  notification_channel: z.strictObject({
    type: z.literal("email"),
    recipients: z.array(z.string().min(1).max(320)).min(1).max(50),
    subject_prefix: z.string().max(256).nullish(),
  }),
};
export const writeSpendAlert = z.strictObject(spendAlertBody);

/** OpenAI's `reader` is our `viewer`; our other roles are taken as well. */
const givenRole = z
  .enum([...role.options, "reader"])
  .transform((given) => (given === "reader" ? ("viewer" as const) : given));
export const updateUser = z.strictObject({
  role: givenRole.optional(),
  /** `false` ends the person's sessions and refuses their keys, until it is `true` again. */
  enabled: z.boolean().optional(),
});
const projectRole = z.enum(["member", "owner"]);
export const createInvite = z.strictObject({
  email: z.email().max(320),
  role: givenRole,
  projects: z
    .array(z.strictObject({ id: z.string().max(64), role: projectRole }))
    .max(100)
    .optional(),
});
export const addProjectUser = z
  .strictObject({
    role: projectRole,
    user_id: z.string().max(64).nullish(),
    email: z.string().max(320).nullish(),
  })
  .refine(({ user_id, email }) => (user_id == null) !== (email == null), {
    message: "expected either 'user_id' or 'email'",
    path: ["user_id"],
  });
export const updateProjectUser = z.strictObject({ role: projectRole.nullish() });

/** Moments are seconds since 1970. */
const at = z.int();
export const organizationProject = z.looseObject({
  id: z.string(),
  object: z.literal("organization.project"),
  name: z.string(),
  created_at: at,
  archived_at: at.nullable(),
  status: z.enum(["active", "archived"]),
});
export const projectApiKey = z.looseObject({
  id: z.string(),
  object: z.literal("organization.project.api_key"),
  name: z.string(),
  redacted_value: z.string(),
  created_at: at,
  expires_at: at.nullable(),
  last_used_at: at.nullable(),
  owner: z.looseObject({ type: z.enum(["user", "service_account"]).optional() }),
  owner_project_access: z.enum(["active", "inactive"]),
});
export const serviceAccount = z.looseObject({
  id: z.string(),
  object: z.literal("organization.project.service_account"),
  name: z.string(),
  role: z.enum(["member", "owner"]),
  created_at: at,
});
export const serviceAccountKey = z.looseObject({
  id: z.string(),
  object: z.literal("organization.project.service_account.api_key"),
  name: z.string(),
  /** The key: the only time that it is shown. */
  value: z.string(),
  created_at: at,
  expires_at: at.nullable(),
});
export const createdServiceAccount = serviceAccount.extend({
  api_key: serviceAccountKey.nullable(),
});
/** A limit that there is none of is null. */
export const projectRateLimit = z.looseObject({
  id: z.string(),
  object: z.literal("project.rate_limit"),
  model: z.string(),
  max_requests_per_1_minute: z.int().nullable(),
  max_tokens_per_1_minute: z.int().nullable(),
  max_requests_per_1_day: z.int().optional(),
});
export const spendLimit = z.looseObject({
  object: z.enum(["project.spend_limit", "organization.spend_limit"]),
  currency: z.literal("USD"),
  interval: z.literal("month"),
  threshold_amount: z.number(),
  enforcement: z.looseObject({ status: z.enum(["inactive", "enforcing"]) }),
});
export const organizationSpendAlert = z.looseObject({
  ...spendAlertBody,
  threshold_amount: z.number(),
  id: z.string(),
  object: z.enum(["project.spend_alert", "organization.spend_alert"]),
});
export const adminApiKey = z.looseObject({
  id: z.string(),
  object: z.literal("organization.admin_api_key"),
  name: z.string(),
  redacted_value: z.string(),
  created_at: at,
  expires_at: at.nullable(),
  last_used_at: at.nullable(),
  owner: z.looseObject({ type: z.string() }),
});
export const createdAdminApiKey = adminApiKey.extend({ value: z.string() });
export const organizationUser = z.looseObject({
  id: z.string(),
  object: z.literal("organization.user"),
  email: z.string().nullable(),
  name: z.string().nullable(),
  role,
  added_at: at,
  projects: z.looseObject({ object: z.literal("list") }),
});
export const projectUser = z.looseObject({
  id: z.string(),
  object: z.literal("organization.project.user"),
  email: z.string().nullable(),
  name: z.string().nullable(),
  role: projectRole,
  added_at: at,
});
export const invite = z.looseObject({
  id: z.string(),
  object: z.literal("organization.invite"),
  email: z.string(),
  role: z.enum([...role.options, "reader"]),
  status: z.enum(["accepted", "expired", "pending"]),
  created_at: at,
  expires_at: at,
  accepted_at: at.nullable(),
  projects: z.array(z.looseObject({ id: z.string(), role: projectRole })),
});
export const auditLog = z.looseObject({
  id: z.string(),
  type: z.string(),
  effective_at: at,
  actor: z.looseObject({ type: z.enum(["session", "api_key"]) }),
});
export const deleted = z.looseObject({ object: z.string(), deleted: z.boolean() });
