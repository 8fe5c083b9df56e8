/**
 * Every order in which a few actors can take their steps on one budget: those who spend, those who die, those who
 * compare with the ledger. The store under test is the one that runs; Redis's is held to it by `budgets.test.ts`.
 */
import { expect, test } from "vitest";
import { counterOf } from "./counters.ts";
import { createMemoryBudgets } from "./memory-budgets.ts";
import type { BudgetLease, BudgetStore } from "./types.ts";

const limit = 10n;
const counter = counterOf(
  { type: "key", id: "k", projectId: "p" },
  { limitUsd: "0.00000000001", period: "total" },
  { user: undefined, model: undefined, atMs: 0 },
);
const leaseTtlMs = 1_000;

type World = {
  clock: { ms: number };
  store: BudgetStore;
  /** What the database holds, and what was settled whether it is there yet or not. */
  ledger: bigint;
  settled: bigint;
  /** Granted, alive and not settled. */
  living: number;
  /** Whether a lease may be given back while its holder lives: a request outlasted its time. */
  late: boolean;
};
/** What an actor knows: what it read of the ledger, and its lease. `"over"` ends it before its last step. */
type Memory = { read: bigint; lease?: BudgetLease; over?: boolean };
type Step = (world: World, memory: Memory) => Promise<void> | "disabled";
type Actor = readonly Step[];

const load: Step = async (world, memory) => {
  memory.read = world.ledger;
};
const raise: Step = async ({ store }, memory) => {
  await store.raise([{ counter, spent: memory.read }]);
};
const reserve =
  (amount: bigint): Step =>
  async (world, memory) => {
    const hold = { counter, amount, models: new Set(["gpt"]) };
    const lease = await world.store
      .reserve({ requestId: "r", holds: [hold] })
      .catch(() => ({ unknown: [counter] }));
    if ("unknown" in lease) memory.over = true;
    else {
      memory.lease = lease;
      world.living++;
    }
  };
const settle =
  (cost: bigint): Step =>
  async (world, { lease }) => {
    await lease?.settle({ cost, model: "gpt" });
    await lease?.settle({ cost, model: "gpt" });
    world.settled += cost;
    world.living--;
  };
const writeDown =
  (cost: bigint): Step =>
  async (world) => {
    world.ledger += cost;
  };
const die: Step = async (world) => {
  world.living--;
};
/** Leases live longer than any request may take, so that only those of the dead expire, unless `late` lets them. */
const expire: Step = (world) => {
  if (world.living > 0 && !world.late) return "disabled";
  return (async () => {
    world.clock.ms += leaseTtlMs;
    await world.store.read([counter]);
  })();
};

const request = (amount: bigint, cost: bigint): Actor => [
  load,
  raise,
  reserve(amount),
  settle(cost),
  writeDown(cost),
];
const victim = (amount: bigint): Actor => [load, raise, reserve(amount), die];
const comparer: Actor = [load, raise, load, raise];

test.each<[string, Actor[]]>([
  ["three that spend all they reserve", [request(6n, 6n), request(4n, 4n), request(5n, 5n)]],
  ["three that spend a part", [request(6n, 1n), request(4n, 3n), request(10n, 9n)]],
  ["one that dies", [request(6n, 5n), victim(5n), [expire], request(5n, 5n)]],
  ["two that die", [victim(6n), victim(6n), [expire, expire], request(6n, 6n)]],
  ["one that compares meanwhile", [request(6n, 4n), request(6n, 6n), comparer]],
])("%s: nothing is overspent, and nothing stays reserved", async (_name, actors) => {
  const states = await explore(actors, false, async (world, isOver) => {
    const [figures] = await world.store.read([counter]);
    const { spent, held } = figures ?? { spent: 0n, held: 0n };
    expect(spent + held).toBeLessThanOrEqual(limit);
    expect(world.settled).toBeLessThanOrEqual(limit);
    expect(world.ledger).toBeLessThanOrEqual(world.settled);
    if (figures) expect(spent).toBe(world.settled);
    if (!isOver) return;
    world.clock.ms += leaseTtlMs;
    await world.store.raise([{ counter, spent: world.ledger }]);
    expect(await world.store.read([counter])).toMatchObject([{ spent: world.settled, held: 0n }]);
  });
  expect(states).toBeGreaterThan(50);
});

test("a request that outlasts its lease is counted all the same, once, in every order", async () => {
  const actors = [request(6n, 6n), request(6n, 6n), [expire]];
  let beyond = false;
  await explore(actors, true, async (world, isOver) => {
    const [figures] = await world.store.read([counter]);
    if (figures) expect(figures.spent).toBe(world.settled);
    if (figures) expect(figures.held).toBeGreaterThanOrEqual(0n);
    if (isOver && figures) expect(figures.held).toBe(0n);
    beyond ||= world.settled > limit;
  });
  // Which is why a lease lives longer than any request may take.
  expect(beyond).toBe(true);
});

/** Visits every state that some order of steps leads to, each once, and returns how many there are. */
async function explore(
  actors: readonly Actor[],
  late: boolean,
  check: (world: World, isOver: boolean) => Promise<void>,
): Promise<number> {
  const seen = new Set<string>();
  const paths: number[][] = [[]];
  for (let path = paths.pop(); path; path = paths.pop()) {
    const { world, next, memories, blocked } = await walk(actors, path, late);
    if (blocked) continue;
    const [figures] = await world.store.read([counter]);
    const state = [
      next.join(),
      memories.map(({ read, lease, over }) => `${read}/${lease !== undefined}/${over}`).join(),
      [figures?.spent, figures?.held, world.ledger, world.settled, world.clock.ms].join(),
    ].join(" ");
    if (seen.has(state)) continue;
    seen.add(state);
    const enabled = actors.flatMap((actor, index) =>
      (next[index] ?? 0) < actor.length && !memories[index]?.over ? [index] : [],
    );
    for (const index of enabled) paths.push([...path, index]);
    await check(world, enabled.length === 0);
  }
  return seen.size;
}

async function walk(actors: readonly Actor[], path: readonly number[], late: boolean) {
  const clock = { ms: 0 };
  const store = createMemoryBudgets({ now: () => clock.ms, leaseTtlMs, countersMax: 10 });
  const world: World = { clock, store, ledger: 0n, settled: 0n, living: 0, late };
  const next = actors.map(() => 0);
  const memories: Memory[] = actors.map(() => ({ read: 0n }));
  for (const index of path) {
    const step = actors[index]?.[next[index] ?? 0];
    const memory = memories[index];
    if (!step || !memory) throw new Error("a path leads through steps that there are");
    const done = step(world, memory);
    if (done === "disabled") return { world, next, memories, blocked: true };
    await done;
    next[index] = (next[index] ?? 0) + 1;
  }
  return { world, next, memories, blocked: false };
}
