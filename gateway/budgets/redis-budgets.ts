/**
 * Budgets that all gateways share: one Lua call reserves in every counter or in none, another tells what a process
 * holds ahead of its requests.
 */
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import { luaNow, type Redis, runScript, script } from "../metering/redis.ts";
import {
  type AdvanceAccount,
  type AdvanceAnswer,
  type BudgetLease,
  type BudgetRequest,
  budgetExceeded,
  type Counter,
  costIn,
  type Figures,
  type LastWord,
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
  /** Milliseconds on a clock that never steps. */
  clockMs?: () => number;
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
  clockMs = () => performance.now(),
  now,
  prefix = "switchyard",
}: RedisBudgetsOptions): SharedBudgets {
  const time = (): string => (now === undefined ? "" : String(now()));
  /** The counter, its leases, and what processes hold of it. Braces keep all on one node: a request may fall under the organisation's budget too. */
  const keysOf = (counters: readonly Pick<Counter, "name">[]): string[] =>
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
    return leaseOf({ requestId, holds }, facts[0]);
  }

  function leaseOf({ requestId, holds }: BudgetRequest, expires = "0"): BudgetLease {
    let settled = false;
    let saidAtMs: number | undefined;
    const counters = holds.map(({ counter }) => counter);
    return {
      async settle(spent: Spent) {
        if (settled) return [];
        const lateMs = saidAtMs === undefined ? "" : Math.ceil(clockMs() - saidAtMs);
        saidAtMs ??= clockMs();
        const answers = await runScript(redis, settleScript, keysOf(counters), [
          time(),
          requestId,
          lateMs,
          expires,
          leaseTtlMs,
          ...holds.flatMap((hold) => [...toLimbs(hold.amount), ...toLimbs(costIn(hold, spent))]),
        ]);
        settled = true;
        return risesOf(counters, answers);
      },
    };
  }

  async function cancel(request: BudgetRequest): Promise<void> {
    if (request.holds.length === 0) return;
    const nothing = { cost: 0n, model: undefined };
    await leaseOf(request).settle(nothing);
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
        ...part.flatMap(({ counter: { limit, budget, endMs }, wanted, late, ...it }) => [
          it.isKnown ? 1 : 0,
          ...[
            it.settled,
            late.cost,
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
          Math.ceil(late.sinceMs),
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

  async function lastWord(owner: string, words: readonly LastWord[]): Promise<string[]> {
    const living: string[] = [];
    for (let from = 0; from < words.length; from += raisedAtOnce) {
      const part = words.slice(from, from + raisedAtOnce);
      const answers = await runScript(redis, lastWordScript, keysOf(part), [
        time(),
        owner,
        ...part.flatMap(({ settled }) => toLimbs(settled)),
      ]);
      living.push(...part.flatMap(({ name }, index) => (answers[index] === "living" ? name : [])));
    }
    return living;
  }

  return { reserve, cancel, raise, read, account, lastWord };
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
/** Raises of a counter that are remembered, and by how much sooner than it was told late one may have had it. */
const raisesMax = 16;
const lateSlackMs = 1_000;
/** A process that said nothing for so long is dead or away, and is not waited for. */
const silentMs = 2_000;
/** Fields of a counter; beyond it a dead process is not remembered, and what it had ahead stays spent. */
const fieldsMax = 512;

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
  -- An advance is settled|held|free|ahead|told at|expires at|opened at, money in two limbs.
  local function parse(entry)
    local n = {}
    for limb in string.gmatch(entry, '[^|]+') do n[#n + 1] = tonumber(limb) end
    return {settled = {n[1], n[2]}, held = {n[3], n[4]}, free = {n[5], n[6]}, ahead = {n[7], n[8]}, at = n[9], expires = n[10],
      opened = n[11] or 0}
  end
  local function deadName(owner) return 'dead:' .. owner end
  -- By what the ledger has raised a counter of late beyond what was told: at,usd|pico; and so on.
  local function noteRaise(counter, now, amount)
    local kept, all = {}, redis.call('HGET', counter, 'raises') or ''
    for one in string.gmatch(all, '[^;]+') do kept[#kept + 1] = one end
    if #kept >= ${raisesMax} then
      -- Too little may be counted of what comes late, which the next comparison with the ledger mends; too much nothing does.
      local _, usd, pico = string.match(kept[1], '(%d+),(%d+)|(%d+)')
      local at, nextUsd, nextPico = string.match(kept[2], '(%d+),(%d+)|(%d+)')
      kept[2] = at .. ',' .. text(add(money(usd, pico), money(nextUsd, nextPico)))
      table.remove(kept, 1)
    end
    kept[#kept + 1] = string.format('%.0f', now) .. ',' .. text(amount)
    redis.call('HSET', counter, 'raises', table.concat(kept, ';'))
  end
  -- What is told late and the ledger has raised the counter by since then is counted already.
  local function uncounted(counter, late, since)
    local raises = redis.call('HGET', counter, 'raises')
    if not raises or not less(NONE, late) then return late end
    local kept = {}
    for at, usd, pico in string.gmatch(raises, '(%d+),(%d+)|(%d+)') do
      local amount = money(usd, pico)
      if tonumber(at) >= since then
        local counted = least(late, amount)
        late, amount = subtract(late, counted), subtract(amount, counted)
      end
      if less(NONE, amount) then kept[#kept + 1] = at .. ',' .. text(amount) end
    end
    redis.call('HSET', counter, 'raises', table.concat(kept, ';'))
    return late
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
        -- What the dead might spend ahead stays spent until somebody says how much of it was.
        save(counter, 'ahead', subtract(load(counter, 'ahead'), advance.ahead))
        if less(NONE, advance.ahead) and redis.call('HLEN', counter) < ${fieldsMax} then
          redis.call('HSET', counter, deadName(all[i - 1]), all[i])
        end
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
  local expires = string.format('%.3f', now + tonumber(ARGV[3]))
  for i = 1, count do
    local at = 4 + 6 * (i - 1)
    local counter, leases = KEYS[3 * i - 2], KEYS[3 * i - 1]
    save(counter, 'held', add(held[i], argument(at)))
    redis.call('ZADD', leases, expires, ARGV[2] .. '|' .. ARGV[at] .. '|' .. ARGV[at + 1])
    keep(counter, ARGV[at + 5], now)
    keep(leases, ARGV[at + 5], now)
  end
  return {'granted', expires}
`);

/**
 * KEYS: counter, leases and advances of each. ARGV: now, request, how long ago it was said first where it was, when its
 * lease expires, TTL; then what was reserved, and the cost. What is said again is counted where it surely was not: where it is still held, or
 * where its lease was lost with the counter. It leaves a mark for the word before, which may yet come.
 */
const settleScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now, lateMs, expires, ttl = clock(), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  local mark = ARGV[2] .. '!|0|0'
  local answers = {}
  for i = 1, #KEYS / 3 do
    local at = 6 + 4 * (i - 1)
    local counter, leases = KEYS[3 * i - 2], KEYS[3 * i - 1]
    answers[2 * i - 1], answers[2 * i] = '', ''
    if known(counter) then
      local wasHeld = redis.call('ZREM', leases, ARGV[2] .. '|' .. ARGV[at] .. '|' .. ARGV[at + 1]) == 1
      if wasHeld then save(counter, 'held', subtract(load(counter, 'held'), argument(at))) end
      local isCounted
      if lateMs then
        local since = tonumber(redis.call('HGET', counter, 'since') or 0)
        -- One whose time is up may have been heard or not: the ledger tells.
        isCounted = not wasHeld and since <= expires - ttl
        redis.call('ZADD', leases, now + ttl, mark)
        if redis.call('PTTL', leases) < 0 then redis.call('PEXPIRE', leases, ttl) end
      else
        isCounted = redis.call('ZSCORE', leases, mark)
      end
      local cost = argument(at + 2)
      if isCounted then cost = NONE elseif lateMs then cost = uncounted(counter, cost, now - lateMs - ${lateSlackMs}) end
      answers[2 * i - 1], answers[2 * i] = rise(counter, cost)
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
    local spent, before = load(counter, 'spent'), toldSpent(counter)
    if not known(counter) then
      -- Nothing of a counter that was lost is held in it.
      redis.call('DEL', KEYS[3 * i - 1], KEYS[3 * i])
      redis.call('HSET', counter, 'since', string.format('%.3f', now))
      -- What others spent on it while nobody told of it may be in there, and they will tell of it.
      if less(NONE, argument(at)) then noteRaise(counter, now, argument(at)) end
      save(counter, 'spent', argument(at))
    elseif less(spent, argument(at)) then
      noteRaise(counter, now, subtract(argument(at), spent))
      save(counter, 'spent', argument(at))
    end
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
 * KEYS: counter, leases and advances of each. ARGV: now, process, TTL; then whether its advance is known; settled, late,
 * held, free, ahead, held and ahead further, a request's cost, limit; whether it is hard, how long it is kept, and how long
 * what is late is so. Shares are of what is left, so they shrink as the budget nears its end, and end when they are smaller than a request.
 */
const accountScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now = clock()
  local owner = ARGV[2]
  local answers = {}
  for i = 1, #KEYS / 3 do
    local at = 4 + 22 * (i - 1)
    local counter, advances = KEYS[3 * i - 2], KEYS[3 * i]
    local answer = {'lost', '', '', '', '', '', ''}
    local all = known(counter) and expire(counter, KEYS[3 * i - 1], advances, now)
    local entry = redis.call('HGET', advances, owner)
    local old = {settled = NONE, held = NONE, ahead = NONE, opened = now}
    if entry then old = parse(entry) else redis.call('HDEL', counter, deadName(owner)) end
    local settled, held, free, ahead = argument(at + 1), argument(at + 5), argument(at + 7), argument(at + 9)
    if all and less(settled, old.settled) then
      -- A later word came before it, on another connection.
      local spent = toldSpent(counter)
      answer = {'told', text(NONE), text(NONE), text(spent), text(spent), '', ''}
    elseif all and (entry or ARGV[at] == '0') then
      local before = toldSpent(counter)
      local spent = load(counter, 'spent')
      if less(old.settled, settled) then
        local news = subtract(settled, old.settled)
        local late = least(news, argument(at + 3))
        late = subtract(late, uncounted(counter, late, now - tonumber(ARGV[at + 21]) - ${lateSlackMs}))
        spent = add(spent, subtract(news, late))
      end
      spent = subtract(add(spent, ahead), old.ahead)
      local allAhead = subtract(add(load(counter, 'ahead'), ahead), old.ahead)
      all = subtract(add(all, held), old.held)
      local recalled = tonumber(redis.call('HGET', counter, 'recalled_until') or 0) > now
      local moreHeld, moreAhead, limit = NONE, NONE, argument(at + 17)
      if ARGV[at + 19] ~= '1' then
        moreHeld, moreAhead = argument(at + 11), argument(at + 13)
      elseif not recalled and less(add(spent, all), limit) then
        local left = subtract(limit, add(spent, all))
        local share = part(left, ${heldShare})
        if not less(share, argument(at + 15)) then
          moreHeld = least(argument(at + 11), share)
          moreAhead = least(argument(at + 13), part(left, ${aheadShare}))
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
          string.format('%.0f|%.0f|%.0f', now, now + tonumber(ARGV[3]), old.opened)}, '|'))
      end
      for _, key in ipairs({counter, advances}) do keep(key, ARGV[at + 20], now) end
      answer = {'told', text(moreHeld), text(moreAhead), text(before), text(toldSpent(counter)), recalled and '1' or '',
        over and '1' or ''}
    end
    for j = 1, 7 do answers[7 * (i - 1) + j] = answer[j] end
  end
  return answers
`);

/**
 * KEYS: counter, leases and advances of each. ARGV: now, process; then what it had settled by its end. Where the ledger has
 * raised the counter since the process came, what it had ahead may hide what others spent, and stays spent.
 */
const lastWordScript = script(`
  ${luaNow} ${luaMoney} ${luaKeep}
  local now = clock()
  local name = deadName(ARGV[2])
  local answers = {}
  for i = 1, #KEYS / 3 do
    local counter, advances = KEYS[3 * i - 2], KEYS[3 * i]
    answers[i] = 'over'
    if known(counter) then
      expire(counter, KEYS[3 * i - 1], advances, now)
      local entry = redis.call('HGET', counter, name)
      if redis.call('HEXISTS', advances, ARGV[2]) == 1 then
        answers[i] = 'living'
      elseif entry then
        redis.call('HDEL', counter, name)
        local dead, settled = parse(entry), argument(3 + 2 * (i - 1))
        local news = less(dead.settled, settled) and subtract(settled, dead.settled) or NONE
        local masked = false
        for at in string.gmatch(redis.call('HGET', counter, 'raises') or '', '(%d+),') do
          masked = masked or tonumber(at) >= dead.opened
        end
        if less(news, dead.ahead) and not masked then
          save(counter, 'spent', subtract(load(counter, 'spent'), subtract(dead.ahead, news)))
        end
      end
    end
  end
  return answers
`);
