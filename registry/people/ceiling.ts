/** What a person asked for their own key, held within what the project lets such keys be. */
import type { z } from "zod";
import { createKey, type createOwnKey } from "../../sdk/protocol/admin.ts";
import {
  type Budget,
  budgetName,
  countedBy,
  type KeyScopes,
  type LimitRule,
  type OwnKeys,
  type RateLimits,
  rulesOf,
} from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";

type Asked = z.infer<typeof createOwnKey>;

/**
 * What is not asked for is as the ceiling has it; all limits and budgets of both hold at once.
 * @throws HubError `permission_denied` naming what goes beyond it, `invalid_value` for more of both together than a key
 *   may have: gateways would refuse to read it
 */
export function withinCeiling(asked: Asked, ceiling: OwnKeys): z.infer<typeof createKey> {
  const expiresInSeconds = lifetimeWithin(asked.expiresInSeconds, ceiling.daysMax);
  const scopes = scopesWithin(asked.scopes, ceiling.scopes);
  const budgets = budgetsWithin(asked.budgets, ceiling.budgets);
  return asAnyKey({
    name: asked.name,
    role: "project",
    projectId: asked.projectId,
    limits: limitsWithin(asked.limits, ceiling.limits),
    ...(expiresInSeconds !== undefined && { expiresInSeconds }),
    ...(scopes && { scopes }),
    ...(budgets.length > 0 && { budgets }),
  });
}

function asAnyKey(wanted: z.input<typeof createKey>): z.infer<typeof createKey> {
  const parsed = createKey.safeParse(wanted);
  if (parsed.success) return parsed.data;
  const { path = [], message = "" } = parsed.error.issues[0] ?? {};
  const param = path.join(".");
  throw new HubError(
    "invalid_value",
    `With what this project adds to every such key, '${param}' is not valid: ${message}. Ask for less in it.`,
    { param },
  );
}

function lifetimeWithin(asked: number | undefined, daysMax: number | undefined) {
  const most = daysMax === undefined ? undefined : daysMax * 86_400;
  if (asked !== undefined && most !== undefined && asked > most) {
    throw beyond("expiresInSeconds", `last ${daysMax} days at most`);
  }
  return asked ?? most;
}

function limitsWithin(asked: RateLimits, ceiling: RateLimits = {}): RateLimits {
  for (const rule of rulesOf(ceiling)) {
    const own = rulesOf(asked).find((it) => countedBy(it) === countedBy(rule));
    if (own && (own.limit > rule.limit || burstOf(own) > burstOf(rule))) {
      throw beyond("limits", `have at most ${rule.limit} ${rule.kind} (${countedBy(rule)})`);
    }
  }
  const { rules = [], ...short } = asked;
  const asksFor = new Set(rulesOf(asked).map(countedBy));
  const { rules: ceilingRules = [], ...ceilingShort } = ceiling;
  const more = ceilingRules.filter((rule) => !asksFor.has(countedBy(rule)));
  const all = [...rules, ...more];
  // A rule that counts what a short form does takes its place.
  const shortLeft = Object.fromEntries(
    Object.entries(ceilingShort).filter(
      ([name, limit]) => !rulesOf({ [name]: limit }).some((rule) => asksFor.has(countedBy(rule))),
    ),
  );
  return { ...shortLeft, ...short, ...(all.length > 0 && { rules: all }) };
}

const burstOf = ({ burst, limit }: LimitRule): number => burst ?? limit;

function budgetsWithin(asked: readonly Budget[] = [], ceiling: readonly Budget[] = []): Budget[] {
  for (const budget of ceiling) {
    const own = asked.find((it) => budgetName(it) === budgetName(budget));
    if (own && parseUsd(own.limitUsd) > parseUsd(budget.limitUsd)) {
      throw beyond("budgets", `spend at most $${budget.limitUsd} (${budgetName(budget)})`);
    }
  }
  const asksFor = new Set(asked.map(budgetName));
  return [...asked, ...ceiling.filter((it) => !asksFor.has(budgetName(it)))];
}

function scopesWithin(asked: KeyScopes = {}, ceiling: KeyScopes = {}): KeyScopes | undefined {
  refuseOthers("models", asked.models, ceiling.models, isModelUnder);
  refuseOthers("endpoints", asked.endpoints, ceiling.endpoints, isEndpointUnder);
  refuseOthers("addresses", asked.addresses, ceiling.addresses, (one, other) => one === other);
  const scopes = { ...ceiling, ...asked };
  return Object.keys(scopes).length === 0 ? undefined : scopes;
}

function refuseOthers(
  name: keyof KeyScopes,
  asked: readonly string[] | undefined,
  ceiling: readonly string[] | undefined,
  isUnder: (one: string, other: string) => boolean,
): void {
  if (ceiling === undefined) return;
  const other = asked?.find((one) => !ceiling.some((it) => isUnder(one, it)));
  if (other === undefined) return;
  throw beyond(`scopes.${name}`, `be for ${ceiling.join(", ")} alone, and not for ${other}`);
}

/** A base model's name stands for its adapters, an adapter's for its versions. */
const isModelUnder = (one: string, other: string): boolean =>
  one === other || one.startsWith(`${other}:`) || one.startsWith(`${other}@`);

const isEndpointUnder = (one: string, other: string): boolean =>
  one === other || one.startsWith(other.endsWith("/") ? other : `${other}/`);

function beyond(param: string, most: string): HubError {
  return new HubError(
    "permission_denied",
    `In this project a key that people make for themselves may ${most}. An administrator can make another.`,
    { param },
  );
}
