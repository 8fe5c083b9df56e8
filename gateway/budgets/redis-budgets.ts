/**
 * Budgets that all gateways share: one Lua call reserves in every counter or in none, another tells what a process
 * holds ahead of its requests.
 */
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import { luaNow, type Redis, runScript, script } from "../metering/redis.ts";
import {
  type AdvanceAccount,
  type AdvanceAnswer,
  type BudgetRequest,
  budgetExceeded,
  type Counter,
  costIn,
  type Figures,
  type Rise,
  type SharedBudgets,
  type Spending,
  type Spent,
} from "./types.ts";

export type RedisBudgetsOptions = {
  redis: Redis;
  leaseTtlMs: number;
  /** How long a process may spend of what it holds without a word; its requests may last as long as leases. */
  advanceMs: number;
  /** Only for tests; Redis's clock otherwise. */
  now?: () => number;
  prefix?: string;
};

/**
 * A counter is forgotten when its period is over, or nobody has used it for a week: it is not known then, and
 * whoever reserves raises it from the ledger again.
 */
export function createRedisBudgets({
  redis,
  leaseTtlMs,
  advanceMs,
  now,
  prefix = "switchyard",
}: RedisBudgetsOptions): SharedBudgets {
  const time = (): string => (now === undefined ? "" : String(now()));
  /** The counter, its leases, and what processes hold of it. Braces keep all on one node: a request may fall under the organisation's budget too. */
  const keysOf = (counters: readonly Counter[]): string[] =>
    counters.flatMap(({ name }) => {
      const key = `${prefix}:{budgets}:${name}`;
      return [key, `${key}:leases`, `${key}:advances`];
    });

  async function reserve({ requestId, holds }: BudgetRequest) {
    if (holds.length === 0) return unbounded;
    const counters = holds.map(({ counter }) => counter);
    const keys = keysOf(counters);
    const [answer, ...facts] = await runScript(redis, reserveScript, keys, [
      time(),
      requestId,
      leaseTtlMs,
      ...holds.flatMap(({ counter: { limit, budget, endMs }, amount }) => [
        ...toLimbs(amount),
        ...toLimbs(limit),
        budget.hard === false ? 0 : 1,
        keptUntil(endMs),
      ]),
    ]);
    if (answer === "unknown") {
      return { unknown: facts.flatMap((index) => counters[Number(index) - 1] ?? []) };
    }
    if (answer !== "granted") {
      const [index, spent, held] = facts;
      const hold = holds[Number(index) - 1];
      if (hold === undefined) throw new Error(`the budget's script answered ${index}`);
      const refusal = budgetExceeded(hold, { spent: fromLimbs(spent), held: fromLimbs(held) });
      if (answer !== "recalled") throw refusal;
      return { recalled: hold.counter, refusal };
    }
    let settled = false;
    return {
      async settle(spent: Spent) {
        if (settled) return [];
        settled = true;
        const answers = await runScript(redis, settleScript, keys, [
          time(),
          requestId,
          ...holds.flatMap((hold) => [...toLimbs(hold.amount), ...toLimbs(costIn(hold, spent))]),
        ]);
        return risesOf(counters, answers);
      },
    };
  }

  async function raise(spending: readonly Spending[]): Promise<Rise[]> {
    const rises: Rise[] = [];
    for (let from = 0; from < spending.length; from += raisedAtOnce) {
      const part = spending.slice(from, from + raisedAtOnce);
      const counters = part.map(({ counter }) => counter);
      const answers = await runScript(redis, raiseScript, keysOf(counters), [
        time(),
        ...part.flatMap(({ counter, spent }) => [...toLimbs(spent), keptUntil(counter.endMs)]),
      ]);
      rises.push(...risesOf(counters, answers));
    }
    return rises;
  }

  async function read(counters: readonly Counter[]): Promise<(Figures | undefined)[]> {
    const found: (Figures | undefined)[] = [];
    for (let from = 0; from < counters.length; from += raisedAtOnce) {
      const part = counters.slice(from, from + raisedAtOnce);
      const answers = await runScript(redis, readScript, keysOf(part), [time()]);
      for (const index of part.keys()) {
        const [spent, held] = [answers[2 * index], answers[2 * index + 1]];
        found.push(spent ? { spent: fromLimbs(spent), held: fromLimbs(held) } : undefined);
      }
    }
    return found;
  }

  async function account(
    owner: string,
    accounts: readonly AdvanceAccount[],
  ): Promise<AdvanceAnswer[]> {
    const told: AdvanceAnswer[] = [];
    for (let from = 0; from < accounts.length; from += raisedAtOnce) {
      const part = accounts.slice(from, from + raisedAtOnce);
      const keys = keysOf(part.map(({ counter }) => counter));
      const answers = await runScript(redis, accountScript, keys, [
        time(),
        owner,
        leaseTtlMs + advanceMs,
        ...part.flatMap(({ counter: { limit, budget, endMs }, wanted, ...it }) => [
          it.isKnown ? 1 : 0,
          ...[
            it.settled,
            it.held,
            it.free,
            it.ahead,
            wanted.held,
            wanted.ahead,
            it.unit,
            limit,
          ].flatMap(toLimbs),
          budget.hard === false ? 0 : 1,
          keptUntil(endMs),
        ]),
      ]);
      for (const [index, { counter }] of part.entries()) {
        const [type, held, ahead, before, after, recalled, over] = answers.slice(7 * index);
        told.push(
          type !== "told"
            ? { type: "lost" }
            : {
                type,
                held: fromLimbs(held),
                ahead: fromLimbs(ahead),
                rise: { counter, before: fromLimbs(before), after: fromLimbs(after) },
                isRecalled: recalled === "1",
                isOver: over === "1",
              },
        );
      }
    }
    return told;
  }

  return { reserve, raise, read, account };
}

/** @param answers before and after of each; empty for what Redis does not know */
function risesOf(counters: readonly Counter[], answers: readonly string[]): Rise[] {
  return counters.flatMap((counter, index) => {
    const [before, after] = [answers[2 * index], answers[2 * index + 1]];
    return before ? { counter, before: fromLimbs(before), after: fromLimbs(after) } : [];
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

/** A little longer than its period, for what is settled late; 0 where no period ends. */
function keptUntil(endMs: number | undefined): number {
  return endMs === undefined ? 0 : endMs + lateMs;
}

const unbounded = {
  async settle(): Promise<Rise[]> {
    return [];
  },
};
const dollar = 10n ** 12n;
const lateMs = 2 * 86_400_000;
const idleMs = 7 * 86_400_000;
const raisedAtOnce = 100;
/** Parts of what is left of a budget that one process may hold more, and may spend ahead more, by one word. */
const heldShare = 16;
const aheadShare = 64;
/** For so long after somebody wanted it back nothing is given ahead of requests. */
const recalledMs = 1_000;
/** A process that said nothing for so long is dead or away, and is not waited for. */
const silentMs = 2_000;

/** Money is {dollars, pico}; no result here is ever negative. */
const luaMoney = `
  local PICO = 1000000000000
  local NONE = {0, 0}
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
  local function least(a, b) if less(a, b) then return a end return b end
  local function part(a, of)
    local usd = math.floor(a[1] / of)
    return {usd, math.floor(((a[1] - usd * of) * PICO + a[2]) / of)}
  end
  local function money(usd, pico) return {tonumber(usd or 0), tonumber(pico or 0)} end
  local function argument(at) return money(ARGV[at], ARGV[at + 1]) end
  local function text(a) return string.format('%.0f|%.0f', a[1], a[2]) end
  local function load(key, name)
    local limbs = redis.call('HMGET', key, name .. '_usd', name .. '_pico')
    return money(limbs[1] or 0, limbs[2] or 0)
  end
  local function save(key, name, a)
    redis.call('HSET', key, name .. '_usd', string.format('%.0f', a[1]), name .. '_pico', string.format('%.0f', a[2]))
  end
  local function known(key) return redis.call('HEXISTS', key, 'spent_usd') == 1 end
  -- What is spent holds what processes may spend ahead; of that nobody is told.
  local function toldSpent(key) return subtract(load(key, 'spent'), load(key, 'ahead')) end
  local function rise(key, cost)
    local before = toldSpent(key)
    save(key, 'spent', add(load(key, 'spent'), cost))
    return text(before), text(add(before, cost))
  end
`;

/** Kept until some time, or as long as it is used. */
const luaKeep = `
  local function keep(key, untilMs, now)
    local ms = ${idleMs}
    if tonumber(untilMs) > 0 then ms = math.min(ms, math.max(tonumber(untilMs) - now, 3600000)) end
    redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(ms)))
  end
  -- An advance is settled|held|free|ahead|told at|expires at, money in two limbs.
  local function parse(entry)
    local n = {}
    for limb in string.gmatch(entry, '[^|]+') do n[#n + 1] = tonumber(limb) end
    return {settled = {n[1], n[2]}, held = {n[3], n[4]}, free = {n[5], n[6]}, ahead = {n[7], n[8]}, at = n[9], expires = n[10]}
  end
  local function expire(counter, leases, advances, now)
    local held, changed = load(counter, 'held'), false
    local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now)
    for _, lease in ipairs(expired) do
      local usd, pico = string.match(lease, '|(%d+)|(%d+)$')
      held = subtract(held, money(usd, pico))
      redis.call('ZREM', leases, lease)
      changed = true
    end
    -- What living processes hold and do not need.
    local spare = NONE
    local all = redis.call('HGETALL', advances)
    for i = 2, #all, 2 do
      local advance = parse(all[i])
      if advance.expires <= now then
        held, changed = subtract(held, advance.held), true
        -- What the dead might spend ahead stays spent: nobody knows how much of it was.
        save(counter, 'ahead', subtract(load(counter, 'ahead'), advance.ahead))
        redis.call('HDEL', advances, all[i - 1])
      elseif advance.at > now - ${silentMs} then
        spare = add(spare, add(advance.free, advance.ahead))
      end
    end
    if changed then save(counter, 'held', held) end
    return held, spare
  end
`;

/**
 * KEYS: counter, leases and advances of each. ARGV: now, request, TTL; then amount, limit, whether it is hard, and how
 * long it is kept. A lease's name tells what it holds, so that expiry needs no second look-up.
 */
const reserveScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now = clock()
  local count = #KEYS / 3
  local unknown = {'unknown'}
  for i = 1, count do
    if not known(KEYS[3 * i - 2]) then unknown[#unknown + 1] = tostring(i) end
  end
  if #unknown > 1 then return unknown end
  local held, spare = {}, {}
  for i = 1, count do held[i], spare[i] = expire(KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i], now) end
  for i = 1, count do
    local at = 4 + 6 * (i - 1)
    local counter = KEYS[3 * i - 2]
    local amount, limit, spent = argument(at), argument(at + 2), load(counter, 'spent')
    local used = add(add(spent, held[i]), amount)
    if ARGV[at + 4] == '1' and (not less(spent, limit) or less(limit, used)) then
      local answer = 'refused'
      if less(NONE, spare[i]) and not less(limit, subtract(used, spare[i])) then
        answer = 'recalled'
        redis.call('HSET', counter, 'recalled_until', string.format('%.0f', now + ${recalledMs}))
      end
      local ahead = load(counter, 'ahead')
      return {answer, tostring(i), text(subtract(spent, ahead)), text(add(held[i], ahead))}
    end
  end
  for i = 1, count do
    local at = 4 + 6 * (i - 1)
    local counter, leases = KEYS[3 * i - 2], KEYS[3 * i - 1]
    save(counter, 'held', add(held[i], argument(at)))
    redis.call('ZADD', leases, now + tonumber(ARGV[3]), ARGV[2] .. '|' .. ARGV[at] .. '|' .. ARGV[at + 1])
    keep(counter, ARGV[at + 5], now)
    keep(leases, ARGV[at + 5], now)
  end
  return {'granted'}
`);

/** KEYS: counter, leases and advances of each. ARGV: now, request; then what was reserved, and the cost. */
const settleScript = script(`
  ${luaMoney}
  local answers = {}
  for i = 1, #KEYS / 3 do
    local at = 3 + 4 * (i - 1)
    local counter, leases = KEYS[3 * i - 2], KEYS[3 * i - 1]
    answers[2 * i - 1], answers[2 * i] = '', ''
    if known(counter) then
      if redis.call('ZREM', leases, ARGV[2] .. '|' .. ARGV[at] .. '|' .. ARGV[at + 1]) == 1 then
        save(counter, 'held', subtract(load(counter, 'held'), argument(at)))
      end
      answers[2 * i - 1], answers[2 * i] = rise(counter, argument(at + 2))
    end
  end
  return answers
`);

/** KEYS: counter, leases and advances of each. ARGV: now; then spent, and how long it is kept. */
const raiseScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now = clock()
  local answers = {}
  for i = 1, #KEYS / 3 do
    local at = 2 + 3 * (i - 1)
    local counter = KEYS[3 * i - 2]
    -- Nothing of a counter that was lost is held in it.
    if not known(counter) then redis.call('DEL', KEYS[3 * i - 1], KEYS[3 * i]) end
    local spent, before = load(counter, 'spent'), toldSpent(counter)
    if less(spent, argument(at)) or not known(counter) then spent = argument(at) end
    save(counter, 'spent', spent)
    keep(counter, ARGV[at + 2], now)
    answers[2 * i - 1], answers[2 * i] = text(before), text(toldSpent(counter))
  end
  return answers
`);

/** KEYS: counter, leases and advances of each. ARGV: now. Spent and held; empty where it is not known. */
const readScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now = clock()
  local answers = {}
  for i = 1, #KEYS / 3 do
    local counter = KEYS[3 * i - 2]
    answers[2 * i - 1], answers[2 * i] = '', ''
    if known(counter) then
      local held = expire(counter, KEYS[3 * i - 1], KEYS[3 * i], now)
      answers[2 * i - 1], answers[2 * i] = text(toldSpent(counter)), text(add(held, load(counter, 'ahead')))
    end
  end
  return answers
`);

/**
 * KEYS: counter, leases and advances of each. ARGV: now, process, TTL; then whether its advance is known; settled, held,
 * free, ahead, held and ahead further, a request's cost, limit; whether it is hard, and how long it is kept. Shares are
 * of what is left, so they shrink as the budget nears its end, and end when they are smaller than a request.
 */
const accountScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now = clock()
  local owner = ARGV[2]
  local answers = {}
  for i = 1, #KEYS / 3 do
    local at = 4 + 19 * (i - 1)
    local counter, advances = KEYS[3 * i - 2], KEYS[3 * i]
    local answer = {'lost', '', '', '', '', '', ''}
    local all = known(counter) and expire(counter, KEYS[3 * i - 1], advances, now)
    local entry = redis.call('HGET', advances, owner)
    if all and (entry or ARGV[at] == '0') then
      local old = {settled = NONE, held = NONE, ahead = NONE}
      if entry then old = parse(entry) end
      local settled, held, free, ahead = argument(at + 1), argument(at + 3), argument(at + 5), argument(at + 7)
      local before = toldSpent(counter)
      local spent = load(counter, 'spent')
      if less(old.settled, settled) then spent = add(spent, subtract(settled, old.settled)) end
      spent = subtract(add(spent, ahead), old.ahead)
      local allAhead = subtract(add(load(counter, 'ahead'), ahead), old.ahead)
      all = subtract(add(all, held), old.held)
      local recalled = tonumber(redis.call('HGET', counter, 'recalled_until') or 0) > now
      local moreHeld, moreAhead, limit = NONE, NONE, argument(at + 15)
      if ARGV[at + 17] ~= '1' then
        moreHeld, moreAhead = argument(at + 9), argument(at + 11)
      elseif not recalled and less(add(spent, all), limit) then
        local left = subtract(limit, add(spent, all))
        local share = part(left, ${heldShare})
        if not less(share, argument(at + 13)) then
          moreHeld = least(argument(at + 9), share)
          moreAhead = least(argument(at + 11), part(left, ${aheadShare}))
        end
      end
      held, free, ahead = add(held, moreHeld), add(free, moreHeld), add(ahead, moreAhead)
      save(counter, 'spent', add(spent, moreAhead))
      save(counter, 'ahead', add(allAhead, moreAhead))
      save(counter, 'held', add(all, moreHeld))
      -- A word that was not answered is said again, so only one that says nothing new is the last.
      local over = entry and not less(old.settled, settled) and not less(NONE, add(held, ahead))
      if over then
        redis.call('HDEL', advances, owner)
      else
        redis.call('HSET', advances, owner, table.concat({text(settled), text(held), text(free), text(ahead),
          string.format('%.0f|%.0f', now, now + tonumber(ARGV[3]))}, '|'))
      end
      for _, key in ipairs({counter, advances}) do keep(key, ARGV[at + 18], now) end
      answer = {'told', text(moreHeld), text(moreAhead), text(before), text(toldSpent(counter)), recalled and '1' or '',
        over and '1' or ''}
    end
    for j = 1, 7 do answers[7 * (i - 1) + j] = answer[j] end
  end
  return answers
`);
