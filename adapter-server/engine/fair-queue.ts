/** Who waits, and whose turn it is: by priority, between tenants the least served, within a tenant the oldest. */

export type Queued = {
  tenant: string;
  /** Lower is earlier. */
  priority: number;
  /** Order of arrival: the smaller, the older. */
  arrival: number;
  /** Since its last turn: the priority that it got that turn as, which is its own or an earlier one. */
  level: number;
};

/** What a tenant was given so far. */
type Account = {
  /** Tokens computed for it, comparable among tenants that are active. */
  served: number;
  /** Its items that wait or run. */
  active: number;
};

type PriorityClass<T> = {
  /** By tenant, oldest first; tenants of whom nobody waits are left out. */
  waiting: Map<string, T[]>;
  /** When it had its last turn, or began to wait. */
  sinceMs: number;
};

/**
 * A counter of service per tenant; the least served is next, the oldest of equals. A tenant that comes
 * back starts level with the least served of the others, so that time away earns no credit.
 *
 * Items of an earlier priority come first, whosesoever they are. A priority that waits for a turn rises by one for
 * each `priorityAgeMs`, and falls back when it gets one: so each gets turns, however many come before it.
 * @see Sheng et al., "Fairness in Serving Large Language Models" (VTC), OSDI 2024
 */
export class FairQueue<T extends Queued> {
  readonly #accounts = new Map<string, Account>();
  readonly #classes = new Map<number, PriorityClass<T>>();
  readonly #priorityAgeMs: number;
  readonly #nowMs: () => number;
  #size = 0;

  constructor({ priorityAgeMs, nowMs }: { priorityAgeMs: number; nowMs: () => number }) {
    this.#priorityAgeMs = priorityAgeMs;
    this.#nowMs = nowMs;
  }

  /** Items that wait. */
  get size(): number {
    return this.#size;
  }

  /** Tenants of whom somebody waits. */
  get tenants(): number {
    const names = new Set<string>();
    for (const { waiting } of this.#classes.values()) {
      for (const tenant of waiting.keys()) names.add(tenant);
    }
    return names.size;
  }

  push(item: T): void {
    this.#activate(item.tenant);
    let queue = this.#classes.get(item.priority);
    if (!queue) {
      queue = { waiting: new Map(), sinceMs: this.#nowMs() };
      this.#classes.set(item.priority, queue);
    }
    const list = queue.waiting.get(item.tenant) ?? [];
    queue.waiting.set(item.tenant, list);
    insertByArrival(list, item);
    this.#size++;
  }

  /** The item leaves for good. False when it does not wait. */
  remove(item: T): boolean {
    if (!this.#take(item)) return false;
    this.#account(item.tenant).active--;
    return true;
  }

  /** The item waits no longer and runs; its tenant pays for what will be computed first. */
  start(item: T, tokens: number): void {
    const queue = this.#classes.get(item.priority);
    if (queue) queue.sinceMs = this.#nowMs();
    this.#take(item);
    this.charge(item, tokens);
  }

  /** The item runs no longer. */
  stop(item: T): void {
    this.#account(item.tenant).active--;
  }

  charge(item: T, tokens: number): void {
    this.#account(item.tenant).served += tokens;
  }

  /** Tokens computed for a tenant; says something only beside another active one's. */
  servedOf(tenant: string): number {
    return this.#accounts.get(tenant)?.served ?? 0;
  }

  /** How many wait of each tenant of whom anybody does. */
  waitingByTenant(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { waiting } of this.#classes.values()) {
      for (const [name, list] of waiting) counts.set(name, (counts.get(name) ?? 0) + list.length);
    }
    return counts;
  }

  /**
   * Items in the order of their turns. One that is not started before the next is asked for is passed
   * over, and keeps its place for another time.
   */
  *turns(): Generator<T, void, void> {
    const classes = [...this.#classes].map(([priority, queue]) => ({
      priority,
      queue,
      cursors: [...queue.waiting].map(([tenant, list]) => ({ tenant, list, index: 0 })),
    }));
    for (;;) {
      const open = classes.filter(({ cursors }) => cursors.some(isOpen));
      const next = this.#mostUrgent(open);
      const cursor = next && this.#leastServed(next.cursors);
      const item = cursor?.list[cursor.index];
      if (!next || !cursor || !item) return;
      item.level = Math.min(...open.map(({ priority }) => priority));
      yield item;
      if (cursor.list[cursor.index] === item) cursor.index++;
    }
  }

  /** Of the priority that comes last: the waiting of each tenant, oldest first; the largest crowd first. */
  lastCrowds(): { priority: number; crowds: (readonly T[])[] } | undefined {
    if (this.#size === 0) return undefined;
    const priority = Math.max(...this.#classes.keys());
    const crowds = [...(this.#classes.get(priority)?.waiting.values() ?? [])];
    return { priority, crowds: crowds.sort((a, b) => b.length - a.length) };
  }

  /** Whether others wait beside the tenant, and none of them with more. */
  crowds(tenant: string): boolean {
    const counts = this.waitingByTenant();
    const own = counts.get(tenant) ?? 0;
    return own > 0 && counts.size > 1 && [...counts.values()].every((count) => count <= own);
  }

  *waiting(): Generator<T, void, void> {
    for (const { waiting } of this.#classes.values()) {
      for (const list of waiting.values()) yield* list;
    }
  }

  #mostUrgent<C extends { priority: number; queue: PriorityClass<T> }>(
    classes: readonly C[],
  ): C | undefined {
    const nowMs = this.#nowMs();
    let best: C | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const one of classes) {
      const urgency = one.priority - (nowMs - one.queue.sinceMs) / this.#priorityAgeMs;
      if (urgency < least) [best, least] = [one, urgency];
    }
    return best;
  }

  #leastServed(cursors: readonly Cursor<T>[]): Cursor<T> | undefined {
    let best: Cursor<T> | undefined;
    let leastServed = 0;
    let bestArrival = 0;
    for (const cursor of cursors) {
      const head = cursor.list[cursor.index];
      if (!head) continue;
      const served = this.servedOf(cursor.tenant);
      const difference = best ? served - leastServed : -1;
      if (difference > 0 || (difference === 0 && head.arrival > bestArrival)) continue;
      [best, leastServed, bestArrival] = [cursor, served, head.arrival];
    }
    return best;
  }

  #take(item: T): boolean {
    const queue = this.#classes.get(item.priority);
    const list = queue?.waiting.get(item.tenant);
    const index = list?.indexOf(item) ?? -1;
    if (!queue || !list || index === -1) return false;
    list.splice(index, 1);
    this.#size--;
    if (list.length === 0) queue.waiting.delete(item.tenant);
    if (queue.waiting.size === 0) this.#classes.delete(item.priority);
    return true;
  }

  #activate(tenant: string): void {
    if (!this.#accounts.has(tenant) && this.#accounts.size >= tenantsKept) this.#forgetIdle();
    const account = this.#account(tenant);
    if (account.active === 0) account.served = Math.max(account.served, this.#leastActive());
    account.active++;
  }

  #account(tenant: string): Account {
    let account = this.#accounts.get(tenant);
    if (!account) {
      account = { served: 0, active: 0 };
      this.#accounts.set(tenant, account);
    }
    return account;
  }

  #forgetIdle(): void {
    for (const [tenant, { active }] of this.#accounts) {
      if (active === 0) this.#accounts.delete(tenant);
    }
  }

  #leastActive(): number {
    const active = [...this.#accounts.values()].filter((account) => account.active > 0);
    return active.length === 0 ? 0 : Math.min(...active.map(({ served }) => served));
  }
}

/** Keeps the list oldest first. */
export function insertByArrival<T extends Pick<Queued, "arrival">>(list: T[], item: T): void {
  let index = list.length;
  while (index > 0 && list[index - 1]!.arrival > item.arrival) index--;
  list.splice(index, 0, item);
}

type Cursor<T> = { tenant: string; list: readonly T[]; index: number };

function isOpen<T>({ list, index }: Cursor<T>): boolean {
  return index < list.length;
}

/** Beyond this many, tenants without requests are forgotten, and with them what they were served. */
const tenantsKept = 1000;
