/** Who waits, and whose turn it is: tenants share the engine equally, within a tenant the oldest is first. */

export type Queued = {
  tenant: string;
  /** Order of arrival: the smaller, the older. */
  arrival: number;
};

type Tenant<T> = {
  name: string;
  /** Oldest first. */
  waiting: T[];
  running: number;
  /** Tokens computed for it, comparable among tenants that are active. */
  served: number;
};

/**
 * A counter of service per tenant; the least served is next, the oldest of equals. A tenant that comes
 * back starts level with the least served of the others, so that time away earns no credit.
 * @see Sheng et al., "Fairness in Serving Large Language Models" (VTC), OSDI 2024
 */
export class FairQueue<T extends Queued> {
  readonly #tenants = new Map<string, Tenant<T>>();
  #size = 0;

  /** Items that wait. */
  get size(): number {
    return this.#size;
  }

  push(item: T): void {
    const tenant = this.#tenant(item.tenant);
    if (!isActive(tenant)) tenant.served = Math.max(tenant.served, this.#leastServedActive());
    insertByArrival(tenant.waiting, item);
    this.#size++;
  }

  /** False when the item does not wait. */
  remove(item: T): boolean {
    const { waiting } = this.#tenant(item.tenant);
    const index = waiting.indexOf(item);
    if (index === -1) return false;
    waiting.splice(index, 1);
    this.#size--;
    return true;
  }

  /** The item waits no longer and runs; its tenant pays for what will be computed first. */
  start(item: T, tokens: number): void {
    this.remove(item);
    const tenant = this.#tenant(item.tenant);
    tenant.running++;
    tenant.served += tokens;
  }

  /** The item runs no longer. */
  stop(item: T): void {
    this.#tenant(item.tenant).running--;
  }

  charge(item: T, tokens: number): void {
    this.#tenant(item.tenant).served += tokens;
  }

  /**
   * Items in the order of their turns. One that is not started before the next is asked for is passed
   * over, and keeps its place for another time.
   */
  *turns(): Generator<T, void, void> {
    const queues = [...this.#tenants.values()].map((tenant) => ({ tenant, index: 0 }));
    for (;;) {
      const queue = leastServed(queues);
      const item = queue?.tenant.waiting[queue.index];
      if (!queue || !item) return;
      yield item;
      if (queue.tenant.waiting[queue.index] === item) queue.index++;
    }
  }

  /** The waiting of each tenant, oldest first; the largest crowd first. */
  crowds(): (readonly T[])[] {
    return [...this.#tenants.values()]
      .map(({ waiting }) => waiting)
      .sort((a, b) => b.length - a.length);
  }

  waitingOf(tenant: string): number {
    return this.#tenants.get(tenant)?.waiting.length ?? 0;
  }

  *waiting(): Generator<T, void, void> {
    for (const tenant of this.#tenants.values()) yield* tenant.waiting;
  }

  #tenant(name: string): Tenant<T> {
    let tenant = this.#tenants.get(name);
    if (!tenant) {
      if (this.#tenants.size >= tenantsKept) this.#forgetIdle();
      tenant = { name, waiting: [], running: 0, served: 0 };
      this.#tenants.set(name, tenant);
    }
    return tenant;
  }

  #forgetIdle(): void {
    for (const tenant of this.#tenants.values()) {
      if (!isActive(tenant)) this.#tenants.delete(tenant.name);
    }
  }

  #leastServedActive(): number {
    const active = [...this.#tenants.values()].filter(isActive);
    return active.length === 0 ? 0 : Math.min(...active.map(({ served }) => served));
  }
}

/** Keeps the list oldest first. */
export function insertByArrival<T extends Queued>(list: T[], item: T): void {
  let index = list.length;
  while (index > 0 && list[index - 1]!.arrival > item.arrival) index--;
  list.splice(index, 0, item);
}

function isActive<T>(tenant: Tenant<T>): boolean {
  return tenant.running > 0 || tenant.waiting.length > 0;
}

type Cursor<T> = { tenant: Tenant<T>; index: number };

function leastServed<T extends Queued>(queues: readonly Cursor<T>[]): Cursor<T> | undefined {
  let best: Cursor<T> | undefined;
  let bestArrival = 0;
  for (const queue of queues) {
    const head = queue.tenant.waiting[queue.index];
    if (!head) continue;
    const difference = best ? queue.tenant.served - best.tenant.served : -1;
    if (difference > 0 || (difference === 0 && head.arrival > bestArrival)) continue;
    best = queue;
    bestArrival = head.arrival;
  }
  return best;
}

/** Beyond this many, tenants without requests are forgotten, and with them what they were served. */
const tenantsKept = 1000;
