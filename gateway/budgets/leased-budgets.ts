/**
 * Budgets of one process among several. It holds money of the counters it uses ahead of its requests, so that most of them
 * are reserved and settled here and the others hear of it later. Where there is too little for that, each request asks.
 */
import { LRUCache } from "lru-cache";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import {
  type AdvanceAccount,
  type AdvanceAnswer,
  type BudgetLease,
  type BudgetRequest,
  type BudgetStore,
  type Counter,
  costIn,
  type Hold,
  type Rise,
  type SharedBudgets,
  type Spent,
} from "./types.ts";

export type LeasedBudgetsOptions = {
  shared: SharedBudgets;
  /** Names this process; no other, before it or beside it, has the same name. */
  owner: string;
  /** Milliseconds on a clock that never steps. */
  clockMs: () => number;
  sleep: (ms: number) => Promise<unknown>;
  leaseTtlMs: number;
  /** How long what is held may be given to requests without a word with the others. */
  advanceMs: number;
  /** What is not used for so long is given back. */
  idleMs: number;
  /** How long a request may wait for what others hold and do not need. */
  recallMs: number;
  /** Counters of which something is held; with 0 every request asks. */
  advancesMax: number;
  /** Counters of which it is noted what was spent while the store is away. */
  notedMax: number;
  /** What was settled of what is held ahead in a counter, before anybody else learns of it; absent when nothing is held any more. */
  onSettled?: (name: string, settled: PicoUsd | undefined) => void;
  onRise: (rises: readonly Rise[]) => void;
  /** The shared store has lost what was held: what was spent has to be read from the ledger. */
  onLost: (counter: Counter) => void;
  /** The shared store fails. Until `resume` nothing is told to it. */
  onError: (error: unknown) => void;
};

export type LeasedBudgets = BudgetStore & {
  /** Grants of what is held ahead, without a word with the store; nothing where that has too little. Soft budgets need nothing. */
  takeHeld(request: BudgetRequest): BudgetLease | undefined;
  /** Counts what was granted and spent without the shared store, which is told of it when it answers again. */
  note(holds: readonly Hold[], spent: Spent): Promise<void>;
  /** Tells the others what was spent and gives back what they want; to be called every now and then. */
  tick(): Promise<void>;
  /** The shared store answers again: it is told what it missed. @throws when it does not */
  resume(): Promise<void>;
  /** Gives everything back that no request holds. */
  close(): Promise<void>;
};

/** What this process holds of one counter. */
type Advance = {
  counter: Counter;
  isKnown: boolean;
  /** Settled since the store has known it. */
  settled: PicoUsd;
  /** Of that: what waits for the store to hear of it, and what did not wait and may be in the ledger already. */
  untold: PicoUsd;
  late: PicoUsd;
  lateAtMs: number;
  /** For requests to come, and of those under way. */
  free: PicoUsd;
  held: PicoUsd;
  /** What may be settled before the store hears of it. */
  ahead: PicoUsd;
  /** About the dearest of the requests that come: what it may cost at most, and what it did cost. */
  unit: PicoUsd;
  cost: PicoUsd;
  /** How much it would like to hold, and to spend ahead: doubled where it was short, halved where little was used. */
  wanted: Size;
  used: Size & { unit: PicoUsd; cost: PicoUsd };
  isShort: { held: boolean; ahead: boolean };
  /** The store gave less than was wanted; more is asked for with the next tick only. */
  isBounded: boolean;
  isRecalled: boolean;
  /** The store may lack what others have spent: until it was compared with the ledger nothing more is wanted of it. */
  isDoubted: boolean;
  usedAtMs: number;
  validUntilMs: number;
};
type Size = { held: PicoUsd; ahead: PicoUsd };

type Granted = Awaited<ReturnType<BudgetStore["reserve"]>>;
type Recalled = { recalled: Counter; refusal: HubError };

type Waiter = {
  request: BudgetRequest;
  deadlineMs: number;
  resolve: (answer: Granted) => void;
  reject: (error: unknown) => void;
};
type Refused = { amount: PicoUsd; refusal: HubError };

type UnderWay = { holds: readonly Hold[]; expiresAtMs: number };

/**
 * Money that is held is taken out of what others may have, and comes back to them when its process has been silent for
 * longer than any request may last. What may be settled ahead counts as spent already: so no other process grants it,
 * whatever becomes of this one, and what the ledger hears of the store has always counted before.
 */
export function createLeasedBudgets(options: LeasedBudgetsOptions): LeasedBudgets {
  const { shared, owner, clockMs, sleep, leaseTtlMs, idleMs, recallMs, advancesMax, notedMax } =
    options;
  const advances = new Map<string, Advance>();
  // All leases live equally long, so the map's order is the order of expiry.
  const underWay = new Map<object, UnderWay>();
  /** When each was last asked for from the shared store: of what is used again, something is held. */
  const askedAtMs = new LRUCache<string, number>({ max: 4 * Math.max(1, advancesMax) });
  /** Who waits for what others hold, by counter. */
  const waiting = new Map<string, (Waiter & Refused)[]>();
  const due = new Set<Advance>();
  /** What was asked of the store apart from accounts, and may not have been heard. */
  const unheard = new Set<() => Promise<unknown>>();
  let last: Promise<void> = Promise.resolve();
  let next: Promise<void> | undefined;
  let isPaused = false;

  async function reserve(request: BudgetRequest): Promise<Granted> {
    const taken = advancesFor(request.holds);
    if (taken) return take(request.holds, taken);
    const answer = await ask(request);
    if (!("recalled" in answer)) return answer;
    const deadlineMs = clockMs() + recallMs;
    return new Promise((resolve, reject) => wait({ request, deadlineMs, resolve, reject }, answer));
  }

  async function ask(request: BudgetRequest): Promise<Granted | Recalled> {
    const answer = await shared.reserve(request).catch((error: unknown) => {
      // It may be held all the same.
      if (!(error instanceof HubError)) unheard.add(() => shared.cancel(request));
      throw error;
    });
    if (!("settle" in answer)) return answer;
    noteAsked(request.holds);
    return saidAgain(answer);
  }

  /** What was not heard is said again when the store is back. */
  function saidAgain(lease: BudgetLease): BudgetLease {
    return {
      async settle(spent) {
        try {
          return await lease.settle(spent);
        } catch (error) {
          unheard.add(async () => options.onRise(await lease.settle(spent)));
          fail(error);
          return [];
        }
      },
    };
  }

  function fail(error: unknown): void {
    isPaused = true;
    for (const advance of advances.values()) becomeLate(advance);
    options.onError(error);
  }

  /** @returns what each hold is taken from; nothing where one has too little */
  function advancesFor(holds: readonly Hold[]): Advance[] | undefined {
    const nowMs = clockMs();
    const found: Advance[] = [];
    for (const { counter, amount } of holds) {
      const advance = advances.get(counter.name);
      if (advance === undefined) return undefined;
      if (advance.counter.limit !== counter.limit) giveBack(advance);
      advance.counter = counter;
      if (advance.validUntilMs <= nowMs) return undefined;
      advance.used.unit = larger(advance.used.unit, amount);
      advance.unit = larger(advance.unit, amount);
      if (advance.free <= 0n || advance.free < amount) {
        advance.isShort.held = true;
        return undefined;
      }
      found.push(advance);
    }
    return found;
  }

  function take(holds: readonly Hold[], taken: readonly Advance[]): BudgetLease {
    const nowMs = clockMs();
    for (const [index, advance] of taken.entries()) {
      const { amount } = holds[index] as Hold;
      advance.free -= amount;
      advance.held += amount;
      advance.usedAtMs = nowMs;
      advance.used.held = larger(advance.used.held, advance.held);
      if (4n * advance.free < advance.wanted.held && !advance.isBounded) {
        advance.isShort.held = true;
        accountSoon(advance);
      }
    }
    const id = {};
    if (holds.length > 0) underWay.set(id, { holds, expiresAtMs: nowMs + leaseTtlMs });
    let settled = false;
    return {
      async settle(spent) {
        if (settled) return [];
        settled = true;
        release(id);
        await note(holds, spent);
        // The shared store tells how it rose when it hears of it.
        return [];
      },
    };
  }

  function takeHeld({ holds }: BudgetRequest): BudgetLease | undefined {
    const hard = holds.filter(({ counter }) => counter.budget.hard !== false);
    const soft = holds.filter((hold) => !hard.includes(hold));
    const taken = advancesFor(hard);
    if (!taken) return undefined;
    const lease = take(hard, taken);
    return {
      async settle(spent) {
        await Promise.all([lease.settle(spent), note(soft, spent)]);
        return [];
      },
    };
  }

  /** @returns when the store has counted it, or is away */
  async function note(holds: readonly Hold[], spent: Spent): Promise<void> {
    let isShort = false;
    for (const hold of holds) {
      const cost = costIn(hold, spent);
      // Beyond that many the ledger alone tells of it.
      if (!advances.has(hold.counter.name) && (cost === 0n || advances.size >= notedMax)) continue;
      if (!spend(hold.counter, cost)) isShort = true;
    }
    if (isShort && !isPaused) await next;
  }

  /** @returns whether the store has counted it already; else it is told soon */
  function spend(counter: Counter, cost: PicoUsd): boolean {
    const advance = advances.get(counter.name) ?? open(counter);
    advance.settled += cost;
    advance.used.ahead += cost;
    advance.used.cost = larger(advance.used.cost, cost);
    advance.cost = larger(advance.cost, cost);
    if (advance.isKnown) options.onSettled?.(counter.name, advance.settled);
    const isCovered = cost <= advance.ahead;
    if (!isCovered) advance.untold += cost - advance.ahead;
    if (isPaused) becomeLate(advance);
    // What the store has not counted as spent is spent of what it has as held.
    if (!isCovered) advance.free -= smaller(advance.free, cost - advance.ahead);
    advance.ahead = isCovered ? advance.ahead - cost : 0n;
    if (!isCovered || (4n * advance.ahead < advance.wanted.ahead && !advance.isBounded)) {
      advance.isShort.ahead = true;
      accountSoon(advance);
    }
    return isCovered;
  }

  /** From now on the ledger may know it, and others may raise the store by it before it is told. */
  function becomeLate(advance: Advance): void {
    if (advance.untold === 0n) return;
    if (advance.late === 0n) advance.lateAtMs = clockMs();
    advance.late += advance.untold;
    advance.untold = 0n;
  }

  function release(id: object): void {
    const lease = underWay.get(id);
    if (!lease || !underWay.delete(id)) return;
    for (const { counter, amount } of lease.holds) {
      const advance = advances.get(counter.name);
      if (advance === undefined) continue;
      advance.held -= amount;
      if (advance.isKnown) advance.free += amount;
      if (advance.isRecalled) giveBack(advance);
    }
  }

  function expireLeases(): void {
    const nowMs = clockMs();
    for (const [id, { expiresAtMs }] of underWay) {
      if (expiresAtMs > nowMs) return;
      release(id);
    }
  }

  function open(counter: Counter): Advance {
    const advance: Advance = {
      counter,
      isKnown: false,
      settled: 0n,
      untold: 0n,
      late: 0n,
      lateAtMs: 0,
      free: 0n,
      held: 0n,
      ahead: 0n,
      unit: 0n,
      cost: 0n,
      wanted: { held: 0n, ahead: 0n },
      used: { held: 0n, ahead: 0n, unit: 0n, cost: 0n },
      isShort: { held: true, ahead: true },
      isBounded: false,
      isRecalled: false,
      isDoubted: isPaused,
      usedAtMs: clockMs(),
      validUntilMs: 0,
    };
    advances.set(counter.name, advance);
    return advance;
  }

  function noteAsked(holds: readonly Hold[]): void {
    const nowMs = clockMs();
    for (const { counter, amount } of holds) {
      const advance = advances.get(counter.name);
      if (advance) {
        advance.usedAtMs = nowMs;
        const mayGrow = !advance.isBounded && !advance.isRecalled;
        if (advance.isShort.held && mayGrow) accountSoon(advance);
        continue;
      }
      const beforeMs = askedAtMs.get(counter.name) ?? Number.NEGATIVE_INFINITY;
      askedAtMs.set(counter.name, nowMs);
      if (nowMs - beforeMs > idleMs || advances.size >= advancesMax || amount === 0n) continue;
      const opened = open(counter);
      opened.unit = amount;
      accountSoon(opened);
    }
  }

  /** Requests that are refused for the same counter wait together, until others had time to give it back. */
  function wait(waiter: Waiter, { recalled, refusal }: Recalled): void {
    const { name } = recalled;
    const amount = waiter.request.holds.find(({ counter }) => counter.name === name)?.amount ?? 0n;
    const queue = waiting.get(name);
    if (queue) queue.push({ ...waiter, amount, refusal });
    else {
      waiting.set(name, [{ ...waiter, amount, refusal }]);
      void letThrough(recalled);
    }
  }

  /** The one that wants least asks first: where it does not fit none of them does, so one question a round is enough. */
  async function letThrough(counter: Counter): Promise<void> {
    const queue = waiting.get(counter.name) ?? [];
    while (queue.length > 0) {
      const own = advances.get(counter.name);
      if (own) giveBack(own);
      if (own) await accountSoon(own);
      await sleep(recallPollMs);
      queue.sort((a, b) => (a.amount < b.amount ? 1 : a.amount > b.amount ? -1 : 0));
      for (let least = queue.pop(); least; least = queue.pop()) {
        const { request, resolve, reject } = least;
        try {
          const answer = await ask(request);
          if (!("recalled" in answer)) resolve(answer);
          else if (answer.recalled.name !== counter.name) wait(least, answer);
          else {
            queue.push({ ...least, refusal: answer.refusal });
            break;
          }
        } catch (error) {
          reject(error);
          // A store that does not answer one answers none of them.
          if (!(error instanceof HubError)) for (const one of queue.splice(0)) one.reject(error);
        }
      }
      const nowMs = clockMs();
      for (const late of queue.filter(({ deadlineMs }) => deadlineMs <= nowMs)) {
        queue.splice(queue.indexOf(late), 1);
        late.reject(late.refusal);
      }
    }
    waiting.delete(counter.name);
  }

  function giveBack(advance: Advance): void {
    advance.isRecalled = true;
    advance.free = 0n;
    advance.ahead = 0n;
    advance.wanted = { held: 0n, ahead: 0n };
  }

  /** @returns when the store has been told, or has failed to hear it; never rejects */
  function accountSoon(advance?: Advance): Promise<void> {
    if (advance) due.add(advance);
    if (next === undefined) {
      next = last.then(() => {
        next = undefined;
        return accountDue();
      });
      last = next;
    }
    return next;
  }

  async function accountDue(): Promise<void> {
    const together = [...due];
    due.clear();
    if (isPaused || together.length === 0) return;
    const sentAtMs = clockMs();
    const accounts = together.map(toAccount);
    const untold = together.map((advance) => advance.untold);
    try {
      const answers = await shared.account(owner, accounts);
      for (const [index, answer] of answers.entries()) {
        hear(together[index] as Advance, {
          told: accounts[index] as AdvanceAccount,
          untold: untold[index] ?? 0n,
          answer,
          sentAtMs,
        });
      }
    } catch (error) {
      fail(error);
    }
  }

  function toAccount(advance: Advance): AdvanceAccount {
    const { counter, isKnown, settled, held, free, ahead, unit, wanted, isShort } = advance;
    const { late, lateAtMs } = advance;
    const wantsNothing = advance.isRecalled || advance.isDoubted;
    for (const what of ["held", "ahead"] as const) {
      const one = what === "held" ? unit : advance.cost;
      if (isShort[what]) wanted[what] = larger(2n * wanted[what], firstUnits * one);
      isShort[what] = false;
    }
    return {
      counter,
      isKnown,
      settled,
      late: { cost: late, sinceMs: late === 0n ? 0 : clockMs() - lateAtMs },
      held: held + free,
      free,
      ahead,
      wanted: {
        held: wantsNothing ? 0n : larger(wanted.held - held - free, 0n),
        ahead: wantsNothing ? 0n : larger(wanted.ahead - ahead, 0n),
      },
      unit,
    };
  }

  type Heard = {
    told: AdvanceAccount;
    untold: PicoUsd;
    answer: AdvanceAnswer;
    sentAtMs: number;
  };

  function hear(advance: Advance, { told, untold, answer, sentAtMs }: Heard): void {
    advance.untold -= untold;
    advance.late -= told.late.cost;
    if (answer.type === "lost") {
      // What was settled is in the ledger; what requests hold is asked for anew.
      advance.settled -= told.settled;
      advance.free = 0n;
      advance.ahead = 0n;
      advance.isKnown = false;
      if (told.isKnown) {
        advance.isDoubted = true;
        options.onLost(advance.counter);
      }
    } else {
      const { held, ahead, rise, isRecalled, isOver } = answer;
      advance.free += held;
      advance.ahead += ahead;
      advance.validUntilMs = sentAtMs + options.advanceMs;
      advance.isKnown = !isOver;
      if (isOver) advance.settled -= told.settled;
      advance.isBounded = held < told.wanted.held || ahead < told.wanted.ahead;
      if (advance.isBounded) advance.wanted = { held: told.held + held, ahead: told.ahead + ahead };
      options.onRise([rise]);
      if (isRecalled && (advance.free > 0n || advance.ahead > 0n)) {
        giveBack(advance);
        accountSoon(advance);
      } else advance.isRecalled = isRecalled;
    }
    const { isKnown, held, settled, usedAtMs, counter } = advance;
    if (isKnown !== told.isKnown) options.onSettled?.(counter.name, isKnown ? settled : undefined);
    const isOver = !isKnown && held === 0n && settled === 0n && usedAtMs + idleMs < clockMs();
    if (isOver) advances.delete(counter.name);
  }

  async function resume(): Promise<void> {
    for (const say of unheard) {
      await say();
      unheard.delete(say);
    }
    isPaused = false;
    for (const advance of advances.values()) {
      advance.isDoubted = true;
      due.add(advance);
    }
    await accountSoon();
    if (isPaused) throw new Error("the shared budgets did not take what was spent without them");
  }

  return {
    reserve,
    takeHeld,
    note,
    async raise(spending) {
      const rises = await shared.raise(spending);
      for (const { counter } of spending) {
        const advance = advances.get(counter.name);
        if (advance) advance.isDoubted = false;
      }
      return rises;
    },
    async read(counters) {
      const own = counters.flatMap(({ name }) => advances.get(name) ?? []);
      for (const advance of own) due.add(advance);
      if (own.length > 0) await accountSoon();
      return shared.read(counters);
    },
    async tick() {
      expireLeases();
      const idleSinceMs = clockMs() - idleMs;
      for (const advance of advances.values()) {
        advance.isBounded = false;
        if (advance.usedAtMs < idleSinceMs) giveBack(advance);
        else adjust(advance);
        due.add(advance);
      }
      if (due.size > 0) await accountSoon();
    },
    resume,
    async close() {
      // It may answer again by now; if not, that was told, and what is held expires.
      if (isPaused) await resume().catch(() => {});
      for (const advance of advances.values()) {
        giveBack(advance);
        due.add(advance);
      }
      // The first word gives everything back, and the second one says that this was all.
      await accountSoon();
      for (const advance of advances.values()) due.add(advance);
      await accountSoon();
    },
  };
}

/** What is used by less than a quarter becomes half of it. */
function adjust(advance: Advance): void {
  const { used, wanted, held } = advance;
  advance.unit = larger(used.unit, advance.unit / 2n);
  advance.cost = larger(used.cost, advance.cost / 2n);
  for (const what of ["held", "ahead"] as const) {
    const one = what === "held" ? advance.unit : advance.cost;
    if (4n * used[what] < wanted[what]) wanted[what] = larger(wanted[what] / 2n, one);
  }
  advance.free = smaller(advance.free, larger(wanted.held - held, 0n));
  advance.ahead = smaller(advance.ahead, wanted.ahead);
  advance.used = { held, ahead: 0n, unit: 0n, cost: 0n };
}

const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/** Requests for which a counter's first advance has room. */
const firstUnits = 8n;
const recallPollMs = 25;
