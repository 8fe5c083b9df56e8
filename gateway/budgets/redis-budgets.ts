/** Budgets that all gateways share: one Lua call reserves in every scope or in none. */

import type { Budget } from "../../sdk/protocol/catalog.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { luaNow, type Redis, runScript, script } from "../metering/redis.ts";
import { budgetPeriods, periodEnd, periodStart } from "./periods.ts";
import {
  type BudgetLease,
  type BudgetRequest,
  type BudgetScope,
  type BudgetStore,
  budgetExceeded,
  type Spending,
} from "./types.ts";

export type RedisBudgetsOptions = {
  redis: Redis;
  leaseTtlMs: number;
  /** Only for tests, for the expiry of leases; Redis's clock otherwise. */
  now?: () => number;
  prefix?: string;
};

type Budgeted = BudgetScope & { budget: Budget };

/** Counts the periods that have a budget; others are raised from the ledger once they get one. */
export function createRedisBudgets({
  redis,
  leaseTtlMs,
  now,
  prefix = "switchyard",
}: RedisBudgetsOptions): BudgetStore {
  const time = (): string => (now === undefined ? "" : String(now()));

  async function reserve(request: BudgetRequest): Promise<BudgetLease> {
    const scopes = request.scopes.filter((scope): scope is Budgeted => scope.budget !== undefined);
    if (scopes.length === 0) return unbounded;
    const keys = scopes.flatMap((scope) =>
      keysOf(request.projectId, scope, scope.budget.period, request.atMs),
    );
    const amount = toLimbs(request.amount);
    // Names the lease and tells what it holds, so that expiry needs no second look-up.
    const lease = `${request.requestId}|${amount.join("|")}`;
    const [granted, index, spent, held] = await runScript(redis, reserveScript, keys, [
      time(),
      lease,
      leaseTtlMs,
      ...amount,
      ...scopes.flatMap(({ budget }) => [
        ...toLimbs(parseUsd(budget.limitUsd)),
        expiryOf(budget.period, request.atMs),
      ]),
    ]);
    if (granted !== "granted") throw refusal(scopes, request, { index, spent, held });
    let settled = false;
    return {
      async settle(cost) {
        if (settled) return;
        settled = true;
        await runScript(redis, settleScript, keys, [
          time(),
          lease,
          ...amount,
          ...toLimbs(cost),
          ...scopes.map(({ budget }) => expiryOf(budget.period, request.atMs)),
        ]);
      },
    };
  }

  async function raise(spending: readonly Spending[]): Promise<void> {
    for (let from = 0; from < spending.length; from += raisedAtOnce) {
      await Promise.all(spending.slice(from, from + raisedAtOnce).map(raiseScope));
    }
  }

  async function raiseScope({ projectId, spent, atMs, ...scope }: Spending): Promise<void> {
    const periods = budgetPeriods.filter((period) => spent[period] > 0n);
    if (periods.length === 0) return;
    const keys = periods.map((period) => keysOf(projectId, scope, period, atMs)[0]);
    const args = periods.flatMap((period) => [...toLimbs(spent[period]), expiryOf(period, atMs)]);
    await runScript(redis, raiseScript, keys, args);
  }

  /** The counter and the leases of one scope and period; the braces keep a project's on one node. */
  function keysOf(
    projectId: string,
    { type, id }: Pick<BudgetScope, "type" | "id">,
    period: Budget["period"],
    atMs: number,
  ): [counter: string, leases: string] {
    const start = new Date(periodStart(period, atMs)).toISOString().slice(0, 10);
    const name = `${prefix}:{${projectId}}:budget:${type}:${id}:${period}:${start}`;
    return [name, `${name}:leases`];
  }

  return { reserve, raise };
}

function refusal(
  scopes: Budgeted[],
  { amount, atMs }: BudgetRequest,
  answer: { index: string | undefined; spent: string | undefined; held: string | undefined },
) {
  const scope = scopes[Number(answer.index) - 1];
  if (scope === undefined) throw new Error(`the budget's script answered ${answer.index}`);
  return budgetExceeded({
    scope,
    budget: scope.budget,
    spent: fromLimbs(answer.spent),
    reserved: fromLimbs(answer.held),
    amount,
    atMs,
  });
}

/**
 * Lua counts in doubles, which are exact to 2⁵³ and would lose pico-dollars from $9,007 on. So money
 * goes there as whole dollars and the pico-dollars beside them.
 */
function toLimbs(pico: PicoUsd): [string, string] {
  return [(pico / dollar).toString(), (pico % dollar).toString()];
}

function fromLimbs(text: string | undefined): PicoUsd {
  const [usd = "0", pico = "0"] = (text ?? "").split("|");
  return BigInt(usd) * dollar + BigInt(pico);
}

/** A counter is kept a little longer than its period, for what is settled late; 0 is for ever. */
function expiryOf(period: Budget["period"], atMs: number): number {
  const end = periodEnd(period, atMs);
  return end === undefined ? 0 : end + lateMs;
}

const unbounded: BudgetLease = { async settle() {} };
const dollar = 10n ** 12n;
const lateMs = 2 * 86_400_000;
const raisedAtOnce = 100;

/** Money is {dollars, pico}; no result here is ever negative. */
const luaMoney = `
  local PICO = 1000000000000
  local function add(a, b)
    local usd, pico = a[1] + b[1], a[2] + b[2]
    if pico >= PICO then return {usd + 1, pico - PICO} end
    return {usd, pico}
  end
  local function subtract(a, b)
    local usd, pico = a[1] - b[1], a[2] - b[2]
    if pico < 0 then return {usd - 1, pico + PICO} end
    return {usd, pico}
  end
  local function less(a, b)
    return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
  end
  local function money(usd, pico) return {tonumber(usd or 0), tonumber(pico or 0)} end
  local function text(a) return string.format('%.0f|%.0f', a[1], a[2]) end
  local function load(key, name)
    local limbs = redis.call('HMGET', key, name .. '_usd', name .. '_pico')
    return money(limbs[1] or 0, limbs[2] or 0)
  end
  local function save(key, name, a)
    redis.call('HSET', key, name .. '_usd', string.format('%.0f', a[1]), name .. '_pico', string.format('%.0f', a[2]))
  end
  local function keepUntil(key, expiry)
    if tonumber(expiry) > 0 and redis.call('PTTL', key) == -1 then redis.call('PEXPIREAT', key, expiry) end
  end
`;

/** KEYS: counter and leases of each scope. ARGV: now, lease, TTL, amount; then limit and expiry of each. */
const reserveScript = script(`
  ${luaNow} ${luaMoney}
  local now = clock()
  local amount = money(ARGV[4], ARGV[5])
  local held = {}
  for i = 1, #KEYS / 2 do
    local counter, leases = KEYS[2 * i - 1], KEYS[2 * i]
    held[i] = load(counter, 'held')
    local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)
    for _, lease in ipairs(expired) do
      local usd, pico = string.match(lease, '|(%d+)|(%d+)$')
      held[i] = subtract(held[i], money(usd, pico))
      redis.call('ZREM', leases, lease)
    end
    if #expired > 0 then save(counter, 'held', held[i]) end
  end
  for i = 1, #KEYS / 2 do
    local limit = money(ARGV[3 + 3 * i], ARGV[4 + 3 * i])
    local spent = load(KEYS[2 * i - 1], 'spent')
    if not less(spent, limit) or less(limit, add(add(spent, held[i]), amount)) then
      return {'refused', tostring(i), text(spent), text(held[i])}
    end
  end
  for i = 1, #KEYS / 2 do
    local counter, leases = KEYS[2 * i - 1], KEYS[2 * i]
    save(counter, 'held', add(held[i], amount))
    redis.call('ZADD', leases, now + tonumber(ARGV[3]), ARGV[2])
    keepUntil(counter, ARGV[5 + 3 * i])
    keepUntil(leases, ARGV[5 + 3 * i])
  end
  return {'granted'}
`);

/** ARGV: now, lease, its amount, the cost; then the expiry of each scope. */
const settleScript = script(`
  ${luaMoney}
  local amount, cost = money(ARGV[3], ARGV[4]), money(ARGV[5], ARGV[6])
  for i = 1, #KEYS / 2 do
    local counter, leases = KEYS[2 * i - 1], KEYS[2 * i]
    if redis.call('ZREM', leases, ARGV[2]) == 1 then
      save(counter, 'held', subtract(load(counter, 'held'), amount))
    end
    save(counter, 'spent', add(load(counter, 'spent'), cost))
    keepUntil(counter, ARGV[6 + i])
  end
  return {}
`);

/** KEYS: counters. ARGV: spent and expiry of each. */
const raiseScript = script(`
  ${luaMoney}
  for i, counter in ipairs(KEYS) do
    local spent = money(ARGV[3 * i - 2], ARGV[3 * i - 1])
    if less(load(counter, 'spent'), spent) then
      save(counter, 'spent', spent)
      keepUntil(counter, ARGV[3 * i])
    end
  end
  return {}
`);
