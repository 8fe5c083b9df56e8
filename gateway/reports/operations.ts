/** Reports and settled requests, as the OpenAPI document tells them. */
import { z } from "zod";
import { budget } from "../../sdk/protocol/catalog.ts";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";
import { usageKinds } from "./organization.ts";

const bucket = z.looseObject({
  object: z.literal("bucket"),
  start_time: z.int(),
  end_time: z.int(),
  results: z.array(z.looseObject({ object: z.string() })),
});
const bucketPage = z.looseObject({
  object: z.literal("page"),
  data: z.array(bucket),
  has_more: z.boolean(),
  next_page: z.string().nullable(),
});
const usd = z.string();
const figures = {
  requests: z.int(),
  unpriced_requests: z.int(),
  tokens: z.record(z.string(), z.int().nullable()),
  cost_usd: usd,
  response_cache: z.looseObject({
    hits: z.int(),
    cost_usd: usd,
    priced_hits: z.int(),
    uncached_cost_usd: usd,
    saving_usd: usd,
  }),
};
const costReport = z.looseObject({
  object: z.literal("cost_report"),
  from: z.string(),
  to: z.string(),
  currency: z.literal("usd"),
  group_by: z.array(z.string()),
  data: z.array(z.looseObject(figures)),
  totals: z.looseObject(figures),
});
export const settledRequest = z.looseObject({
  id: z.string(),
  object: z.literal("request"),
  at: z.string(),
  tokens: z.record(z.string(), z.int().nullable()),
  cost_usd: usd.nullable(),
  duration_ms: z.number(),
  timings: z.record(z.string(), z.number()).nullable(),
});
const requestList = z.looseObject({
  object: z.literal("list"),
  data: z.array(settledRequest),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});

const requestEvent = z.union([settledRequest, z.object({ count: z.int() })]);

const standing = {
  scope: z.enum(["organization", "project", "key"]),
  scope_id: z.string(),
  project_id: z.string().nullable(),
  end_user: z.string().nullable(),
  model: z.string().nullable(),
  budget,
  spent_usd: usd,
  limit_usd: usd,
  reset_at: z.string().nullable(),
};
const pageOf = { object: z.literal("list"), has_more: z.boolean() };
const budgetList = z.looseObject({
  ...pageOf,
  data: z.array(z.looseObject({ ...standing, id: z.string(), held_usd: usd })),
  last_id: z.string().nullable(),
});
const alertList = z.looseObject({
  ...pageOf,
  data: z.array(
    z.looseObject({
      ...standing,
      id: z.int(),
      at: z.string(),
      share: z.number(),
      posted_at: z.string().nullable(),
    }),
  ),
  last_id: z.int().nullable(),
});

const texts = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, z.string().max(512).optional()]));
const filters = {
  ...texts(
    "project",
    "key",
    "model",
    "adapter",
    "task",
    "user",
    "owner",
    "cost_centre",
    "route",
    "upstream",
  ),
  ...texts("outcome", "error", "status"),
  pricing: z.enum(["priced", "unpriced", "unused"]).optional(),
};
const buckets = {
  start_time: z.int().min(0),
  end_time: z.int().min(0).optional(),
  limit: z.int().min(1).optional(),
  page: z.string().optional(),
  project_ids: z.array(z.string()).optional(),
  user_ids: z.array(z.string()).optional(),
  api_key_ids: z.array(z.string()).optional(),
  group_by: z.array(z.string()).optional(),
};

export const reportsOperations: readonly Operation[] = [
  {
    method: "get",
    path: "/v1/organization/usage/completions",
    id: "usageOfCompletions",
    tag: "Reports",
    summary: "Tokens by time, as OpenAI tells them",
    access: "admin",
    query: z.object({
      ...buckets,
      bucket_width: z.enum(["1m", "1h", "1d"]).optional(),
      models: z.array(z.string()).optional(),
      batch: z.enum(["true", "false"]).optional(),
    }),
    answers: { 200: json("Buckets.", bucketPage) },
    codes: databaseCodes,
  },
  ...usageKinds.map(
    (kind): Operation => ({
      method: "get",
      path: `/v1/organization/usage/${kind}`,
      id: `usageOf_${kind}`,
      tag: "Reports",
      summary: `What ${kind.replace("_", " ")} used by time, as OpenAI tells it`,
      access: "admin",
      query: z.object({
        ...buckets,
        bucket_width: z.enum(["1m", "1h", "1d"]).optional(),
        user_ids: z.array(z.string()).optional(),
        models: z.array(z.string()).optional(),
        ...(kind === "images" && { sources: z.array(z.string()).optional() }),
      }),
      answers: { 200: json("Buckets.", bucketPage) },
      codes: databaseCodes,
    }),
  ),
  {
    method: "get",
    path: "/v1/organization/costs",
    id: "organizationCosts",
    tag: "Reports",
    summary: "Costs by day, as OpenAI tells them",
    access: "admin",
    query: z.object({
      ...buckets,
      bucket_width: z.literal("1d").optional(),
      line_items: z.array(z.string()).optional(),
    }),
    answers: { 200: json("Buckets.", bucketPage) },
    codes: databaseCodes,
  },
  {
    method: "get",
    path: "/api/reports/costs",
    id: "costReport",
    tag: "Reports",
    summary: "What was spent, by whatever finance groups it by",
    access: "both",
    query: z.object({
      ...texts("from", "to"),
      group_by: z.array(z.string()).optional(),
      format: z.enum(["json", "csv"]).optional(),
    }),
    answers: {
      200: {
        says: "The report.",
        content: { "application/json": costReport, "text/csv": z.string() },
      },
    },
    codes: databaseCodes,
  },
  {
    method: "get",
    path: "/api/budgets",
    id: "listBudgets",
    tag: "Reports",
    summary: "Budgets with what is spent, held and left of them",
    access: "both",
    query: z.object({
      ...texts("project"),
      limit: z.int().min(1).max(1000).optional(),
      after: z.string().max(1024).optional(),
    }),
    answers: { 200: json("Budgets.", budgetList) },
    codes: databaseCodes,
  },
  {
    method: "get",
    path: "/api/budgets/alerts",
    id: "listBudgetAlerts",
    tag: "Reports",
    summary: "Shares of budgets that were spent, the newest first",
    access: "both",
    query: z.object({
      limit: z.int().min(1).max(1000).optional(),
      after: z.int().min(1).optional(),
    }),
    answers: { 200: json("Alerts.", alertList) },
    codes: databaseCodes,
  },
  {
    method: "get",
    path: "/api/requests",
    id: "listRequests",
    tag: "Reports",
    summary: "Settled requests, the newest first",
    access: "both",
    query: z.object({
      limit: z.int().min(1).max(100).optional(),
      ...texts("after", "from", "to"),
      ...filters,
    }),
    answers: { 200: json("Requests.", requestList) },
    codes: [...databaseCodes, "deadline_exceeded"],
  },
  {
    method: "get",
    path: "/api/requests/stream",
    id: "followRequests",
    tag: "Reports",
    summary: "Requests as they are settled, as server-sent events `request` and `lost`",
    access: "both",
    query: z.object(filters),
    answers: {
      200: {
        says: "The events, until the client leaves.",
        content: { "text/event-stream": requestEvent },
      },
    },
    endless: true,
    codes: [...databaseCodes, "server_is_overloaded"],
  },
  {
    method: "get",
    path: "/api/requests/{id}",
    id: "getRequest",
    tag: "Reports",
    summary: "A settled request with its decision and its entries",
    access: "both",
    answers: { 200: json("The request.", settledRequest) },
    codes: [...databaseCodes, "not_found"],
  },
];
