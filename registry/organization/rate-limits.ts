/** OpenAI's rate limits of a project, one for each model, over the project's own limits and rules. */
import type { z } from "zod";
import { type LimitRule, type Project, rateLimits } from "../../sdk/protocol/catalog.ts";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { projectRateLimit, UpdateRateLimit } from "../../sdk/protocol/organization.ts";
import type { Change } from "../change.ts";
import { notFound } from "../identity.ts";
import { getModel } from "../models.ts";
import { getProject, updateProject } from "../projects.ts";

export type RateLimit = z.infer<typeof projectRateLimit>;

/** What holds for the model by itself; where that is nothing, what holds for the whole project. */
export function toRateLimit({ limits }: Project, model: string): RateLimit {
  const own = (of: Counted) => limits.rules?.find((rule) => isOf(rule, of, model))?.limit;
  const requestsPerDay = own(fields.max_requests_per_1_day);
  return {
    id: prefix + model,
    object: "project.rate_limit",
    model,
    max_requests_per_1_minute:
      own(fields.max_requests_per_1_minute) ?? limits.requestsPerMinute ?? null,
    max_tokens_per_1_minute: own(fields.max_tokens_per_1_minute) ?? limits.tokensPerMinute ?? null,
    ...(requestsPerDay !== undefined && { max_requests_per_1_day: requestsPerDay }),
  };
}

/** Each figure that is given becomes a rule for that model alone. @throws HubError `not_found`, `number_out_of_range` */
export async function updateRateLimit(
  change: Change,
  { projectId, id }: { projectId: string; id: string },
  wanted: UpdateRateLimit,
): Promise<RateLimit> {
  if (!id.startsWith(prefix)) throw notFound("rate limit", id);
  const model = id.slice(prefix.length);
  await getModel(change.tx, model);
  const { limits } = await getProject(change.tx, projectId);
  let rules = limits.rules ?? [];
  for (const [field, of] of Object.entries(fields)) {
    const limit = wanted[field as keyof UpdateRateLimit];
    if (limit === undefined) continue;
    rules = rules.filter((rule) => !isOf(rule, of, model));
    rules.push({ ...of, limit, each: [], models: [model] });
  }
  const checked = parseOrThrow(rateLimits, { ...limits, rules }, "limits.");
  return toRateLimit(await updateProject(change, projectId, { limits: checked }), model);
}

type Counted = Pick<LimitRule, "kind" | "windowSeconds">;

function isOf(rule: LimitRule, { kind, windowSeconds }: Counted, model: string): boolean {
  const { models = [], each } = rule;
  const alone = models.length === 1 && models[0] === model && each.length === 0;
  return alone && rule.kind === kind && rule.windowSeconds === windowSeconds;
}

const prefix = "rl-";
const fields: Record<keyof UpdateRateLimit, Counted> = {
  max_requests_per_1_minute: { kind: "requests", windowSeconds: 60 },
  max_tokens_per_1_minute: { kind: "tokens", windowSeconds: 60 },
  max_requests_per_1_day: { kind: "requests", windowSeconds: 86_400 },
};
