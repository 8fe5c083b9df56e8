import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { openTestRedis, testTimeMs } from "../metering/testing.ts";
import { counterOf } from "./counters.ts";
import { createLeasedBudgets, type LeasedBudgets } from "./leased-budgets.ts";
import { createRedisBudgets } from "./redis-budgets.ts";
import { createModelBudgets } from "./testing.ts";
import type { BudgetLease, Counter, Hold, Rise, SharedBudgets } from "./types.ts";

const redis = await openTestRedis();
afterAll(() => typeof redis !== "string" && redis.disconnect());

const leaseTtlMs = 60_000;
const advanceMs = 5_000;

describe("a process among others", () => {
  test("that goes on using a budget reserves and settles without a word with the others", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 20; turn++) {
      await world.spend(one, 10n);
      if (turn % 5 === 4) await one.tick();
    }
    const [before, rose] = [world.asked.length, sumOf(world.rises)];
    for (let turn = 0; turn < 5; turn++) await world.spend(one, 10n);
    expect(world.asked.slice(before)).toEqual([]);
    expect(await one.read([world.counter])).toEqual([{ spent: 250n, held: expect.any(BigInt) }]);
    expect(world.asked.slice(before)).toEqual(["account"]);
    expect(sumOf(world.rises) - rose).toBe(50n);
  });

  test("holds no more than a share of what is left, and nothing when that is less than a request", async () => {
    const world = openWorld();
    const [one, other] = [world.process(), world.process()];
    for (let turn = 0; turn < 200; turn++) await world.spend(one, 10n);
    await one.tick();
    const [{ spent, held } = { spent: 0n, held: 0n }] = await world.model.read([world.counter]);
    expect(spent).toBe(2_000n);
    expect(held).toBeGreaterThan(0n);
    expect(held).toBeLessThanOrEqual(8_000n / 16n + 8_000n / 64n);

    // What is left of it now is less than sixteen requests.
    await world.take(other, 7_860n).catch(() => world.take(other, 7_860n));
    await world.wait(2_000, one);
    for (let turn = 0; turn < 5; turn++) await world.spend(one, 10n);
    await one.tick();
    const before = world.asked.length;
    await world.spend(one, 10n);
    expect(world.asked.slice(before)).toContain("reserve");
    expect((await world.model.read([world.counter]))[0]?.held).toBe(7_860n);
  });

  test("gives back what it does not use, and what others want", async () => {
    const world = openWorld();
    const [one, other] = [world.process(), world.process()];
    for (let turn = 0; turn < 20; turn++) await world.spend(one, 10n);
    expect((await world.model.read([world.counter]))[0]?.held).toBeGreaterThan(0n);
    const before = world.clock.ms;
    // All that is left: it waits until the first one has given back, and is refused nothing.
    await world.spend(other, 9_800n);
    expect(world.clock.ms - before).toBeLessThan(500);
    await expect(world.take(other, 1n)).rejects.toMatchObject({
      details: { spentUsd: "0.00000001", reservedUsd: "0" },
    });

    const idle = openWorld();
    const third = idle.process();
    for (let turn = 0; turn < 20; turn++) await idle.spend(third, 10n);
    await idle.wait(1_200, third);
    expect(await idle.model.read([idle.counter])).toEqual([{ spent: 200n, held: 0n }]);
    await idle.wait(300, third);
    const calls = idle.asked.length;
    await idle.wait(300, third);
    expect(idle.asked.length).toBe(calls);
  });

  test("asks one question a round for all requests that wait for the same budget", async () => {
    const world = openWorld();
    const [one, other] = [world.process(), world.process()];
    for (let turn = 0; turn < 20; turn++) await world.spend(one, 10n);
    const rest = await world.take(other, 9_200n);
    const before = world.asked.length;
    const all = await Promise.allSettled(
      Array.from({ length: 100 }, (_, index) => world.take(other, 400n + BigInt(index))),
    );
    expect(all.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const questions = world.asked.slice(before).filter((word) => word === "reserve");
    // Each asks once, and then they wait for a second in rounds of 25 ms, in each of which one asks, or one more that got in.
    expect(questions.length).toBeLessThanOrEqual(100 + 1_000 / 25 + 2);
    await rest.settle({ cost: 0n, model: "gpt" });
  });

  test("that dies has spent little more than what its requests cost, however much they might have", async () => {
    const world = openWorld({ limit: 1_000_000n });
    const dead = world.process();
    for (let turn = 0; turn < 20; turn++) await world.spend(dead, 100n, 1n);
    await dead.tick();
    world.die(dead);
    world.clock.ms += leaseTtlMs + advanceMs;
    const [{ spent } = { spent: 0n }] = await world.model.read([world.counter]);
    expect(spent).toBeGreaterThanOrEqual(world.settled);
    expect(spent).toBeLessThanOrEqual(world.settled + 64n);
  });

  test("that dies has what it held come back, and may have spent no more than counts as spent", async () => {
    const world = openWorld();
    const [dead, other] = [world.process(), world.process()];
    for (let turn = 0; turn < 20; turn++) await world.spend(dead, 10n);
    await world.take(dead, 30n);
    const counted = world.settled;
    world.die(dead);
    await world.spend(other, 1n);
    const [before] = await world.model.read([world.counter]);
    expect(before?.held).toBeGreaterThan(30n);
    world.clock.ms += leaseTtlMs + advanceMs;
    const [after] = await world.model.read([world.counter]);
    expect(after?.held).toBe(0n);
    expect(after?.spent).toBeGreaterThanOrEqual(counted + 1n);
    expect(after?.spent).toBeLessThan(counted + 10_000n / 64n + 2n);
    await world.spend(other, 10_000n - (after?.spent ?? 0n));
    await expect(world.take(other, 1n)).rejects.toMatchObject({ code: "insufficient_quota" });
  });

  test("that dies, and whose last word is said, has what it did not spend come back to the last pico-dollar", async () => {
    const world = openWorld();
    const [dead, other] = [world.process(), world.process()];
    for (let turn = 0; turn < 20; turn++) await world.spend(dead, 10n);
    await dead.tick();
    await world.spend(dead, 10n);
    await world.take(dead, 30n);
    world.die(dead);
    const living = await world.bury(dead);
    expect(living).toEqual([world.counter.name]);
    world.clock.ms += leaseTtlMs + advanceMs;
    const [before] = await world.model.read([world.counter]);
    expect(before?.spent).toBeGreaterThan(world.settled);
    for (let times = 0; times < 2; times++) {
      expect(await world.bury(dead)).toEqual([]);
      expect(await world.model.read([world.counter])).toEqual([{ spent: world.settled, held: 0n }]);
    }
    await world.spend(other, 10_000n - world.settled);
  });

  test("that nobody heard for longer than it may asks before each request", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 20; turn++) await world.spend(one, 10n);
    world.clock.ms += advanceMs;
    const before = world.asked.length;
    await world.spend(one, 10n);
    expect(world.asked[before]).toBe("reserve");
  });

  test("finds a smaller limit at once, and a larger one", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 20; turn++) await world.spend(one, 10n);
    const smaller = { ...world.counter, limit: 205n };
    await expect(world.take(one, 10n, smaller)).rejects.toMatchObject({
      code: "insufficient_quota",
    });
    const lease = await world.take(one, 5n, smaller);
    await lease.settle({ cost: 5n, model: "gpt" });
    await (await world.take(one, 10n)).settle({ cost: 10n, model: "gpt" });
    expect((await one.read([world.counter]))[0]?.spent).toBe(215n);
  });

  test("whose requests cost more than they reserved is counted in full, and so is what is settled too late", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 5; turn++) await world.spend(one, 10n);
    await world.spend(one, 10n, 500n);
    const late = await world.take(one, 10n);
    await world.wait(leaseTtlMs + 2_000, one);
    await late.settle({ cost: 10n, model: "gpt" });
    await world.wait(2_000, one);
    expect(await world.model.read([world.counter])).toEqual([{ spent: 560n, held: 0n }]);
  });

  test("whose words were lost says them again, and nothing counts twice", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 10; turn++) await world.spend(one, 10n);
    for (const lost of ["before", "after"] as const) {
      world.loses = lost;
      await world.spend(one, 10n);
      await one.tick();
      expect(world.errors.length).toBeGreaterThan(0);
      await expect(one.resume()).rejects.toThrow();
      world.loses = undefined;
      await one.resume();
    }
    await world.wait(3_000, one);
    expect(await world.model.read([world.counter])).toEqual([{ spent: 120n, held: 0n }]);
  });

  test("that spends while the store is away counts once, though others learn of it by the ledger before", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 10; turn++) await world.spend(one, 10n);
    world.loses = "before";
    await one.tick();
    await world.spend(one, 10n, 500n);
    await world.model.raise([{ counter: world.counter, spent: world.settled }]);
    world.loses = undefined;
    await one.resume();
    await world.wait(3_000, one);
    expect(await world.model.read([world.counter])).toEqual([{ spent: 600n, held: 0n }]);
  });

  test("that hears the store again holds nothing more of a counter before that was compared with the ledger", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 10; turn++) await world.spend(one, 10n);
    await one.tick();
    const heldNow = async () => (await world.model.read([world.counter]))[0]?.held ?? 0n;
    world.loses = "before";
    await one.tick();
    world.loses = undefined;
    await one.resume();
    const before = await heldNow();
    // It is short by now.
    for (let turn = 0; turn < 20; turn++) {
      const lease = await world.take(one, 10n);
      await lease.settle({ cost: 10n, model: "gpt" });
      await one.tick();
    }
    expect(await heldNow()).toBeLessThanOrEqual(before);
    await one.raise([{ counter: world.counter, spent: 9_000n }]);
    await world.spend(one, 10n);
    await one.tick();
    const [figures] = await world.model.read([world.counter]);
    expect(figures?.spent).toBe(9_010n);
    expect(figures?.held).toBeGreaterThan(0n);
    expect(figures?.held).toBeLessThanOrEqual(1_000n / 16n + 1_000n / 64n);
  });

  test("that ends while the store was away gives everything back where it answers again", async () => {
    const world = openWorld();
    const one = world.process();
    for (let turn = 0; turn < 10; turn++) await world.spend(one, 10n);
    world.loses = "before";
    await one.tick();
    expect((await world.model.read([world.counter]))[0]?.held).toBeGreaterThan(0n);
    world.loses = undefined;
    await one.close();
    expect(await world.model.read([world.counter])).toEqual([{ spent: 100n, held: 0n }]);
  });

  test("without room for another budget's advance asks for each request of it", async () => {
    const world = openWorld({ advancesMax: 0 });
    const one = world.process();
    for (let turn = 0; turn < 10; turn++) await world.spend(one, 10n);
    expect(new Set(world.asked)).toEqual(new Set(["reserve"]));
  });
});

test("whatever processes do, and whenever they die, nothing is overspent and all comes back", async () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ type: fc.constant("take"), by: fc.nat(2), amount: fc.nat(60) }),
    },
    {
      weight: 6,
      arbitrary: fc.record({ type: fc.constant("settle"), by: fc.nat(50), amount: fc.nat(100) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ type: fc.constant("tick"), by: fc.nat(2), amount: fc.nat(600) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ type: fc.constant("die"), by: fc.nat(2), amount: fc.nat(1) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ type: fc.constant("lose"), by: fc.nat(1), amount: fc.nat(1) }),
    },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const world = openWorld({ limit: 1_000n });
      const processes = [world.process(), world.process(), world.process()];
      const of = (index: number) => processes[index] as LeasedBudgets;
      let leases: { by: LeasedBudgets; lease: BudgetLease; amount: bigint }[] = [];
      const dead: LeasedBudgets[] = [];
      for (const { type, by, amount } of steps) {
        if (type === "take") {
          const lease = await world.take(of(by), BigInt(amount)).catch(() => undefined);
          if (lease) leases.push({ by: of(by), lease, amount: BigInt(amount) });
        } else if (type === "settle" && leases.length > 0) {
          const [{ lease, amount: held } = { lease: undefined, amount: 0n }] = leases.splice(
            by % leases.length,
            1,
          );
          const cost = (held * BigInt(amount)) / 100n;
          await lease?.settle({ cost, model: "gpt" });
          world.settled += cost;
        } else if (type === "tick") await world.wait(amount, of(by));
        else if (type === "die") {
          const victim = of(by);
          world.die(victim);
          dead.push(victim);
          leases = leases.filter((it) => it.by !== victim);
          processes[by] = world.process();
        } else if (type === "lose") {
          world.loses = by === 0 ? "before" : "after";
          await of(0).tick();
          world.loses = undefined;
          await of(0).resume();
        }
        const [figures] = await world.model.read([world.counter]);
        const living = leases.reduce((all, it) => all + it.amount, 0n);
        expect(world.settled + living).toBeLessThanOrEqual(1_000n);
        const counted = (figures?.spent ?? 0n) + (figures?.held ?? 0n);
        expect(counted).toBeLessThanOrEqual(1_000n);
        expect(counted).toBeGreaterThanOrEqual(world.settled + living);
      }
      for (const { lease } of leases) await lease.settle({ cost: 0n, model: "gpt" });
      for (const one of processes) await one.close();
      world.clock.ms += leaseTtlMs + advanceMs;
      const [{ spent, held } = { spent: -1n, held: -1n }] = await world.model.read([world.counter]);
      expect(held).toBe(0n);
      expect(spent).toBeGreaterThanOrEqual(world.settled);
      for (const one of dead) await world.bury(one);
      const [end] = await world.model.read([world.counter]);
      expect(end?.spent).toBe(world.settled);
    }),
    { numRuns: 60 },
  );
}, 120_000);

describe.skipIf(typeof redis === "string")(typeof redis === "string" ? redis : "with Redis", () => {
  test.each([1, 40])(
    "what the ledger told first, in %d pieces, is not counted again when whoever was away tells it",
    async (pieces) => {
      if (typeof redis === "string") return;
      const prefix = `test-${randomUUID()}`;
      const store = createRedisBudgets({ redis, leaseTtlMs, advanceMs, prefix });
      // Nobody knew the counter before.
      const counter = counterNamed("away");
      for (let piece = 1n; piece <= pieces; piece++) {
        await store.raise([{ counter, spent: (200n * piece) / BigInt(pieces) }]);
      }
      const late = { cost: 200n, sinceMs: 60_000 };
      const wanted = { held: 0n, ahead: 0n };
      const nothing = { held: 0n, free: 0n, ahead: 0n, wanted, unit: 1n };
      const told = { counter, isKnown: false, settled: 230n, late, ...nothing };
      await store.account("away", [told]);
      expect(await store.read([counter])).toEqual([{ spent: 230n, held: 0n }]);
    },
  );

  test("processes that spend at once, each at its own pace, spend all that there is and no more", async () => {
    if (typeof redis === "string") return;
    const prefix = `test-${randomUUID()}`;
    const store = createRedisBudgets({ redis, leaseTtlMs, advanceMs, prefix });
    const counter = { ...counterNamed("raced"), limit: 20_000n };
    await store.raise([{ counter, spent: 0n }]);
    let spent = 0n;
    const processes = [1, 3, 20].map((atATime) => {
      const budgets = createLeasedBudgets({
        shared: store,
        owner: randomUUID(),
        clockMs: () => performance.now(),
        sleep: (ms) => sleep(ms),
        leaseTtlMs,
        advanceMs,
        idleMs: 1_000,
        recallMs: 5_000,
        advancesMax: 10,
        notedMax: 10,
        onRise: () => {},
        onLost: () => {
          throw new Error("nothing is lost");
        },
        onError: (error) => {
          throw error;
        },
      });
      const ticks = setInterval(() => void budgets.tick(), 50);
      const spendOn = async (lane: number) => {
        for (let turn = 0; ; turn++) {
          const amount = BigInt(20 + ((7 * turn + lane) % 40));
          const asked = { requestId: randomUUID(), holds: [hold(counter, amount)] };
          const lease = await budgets.reserve(asked).catch(() => undefined);
          if (!lease || "unknown" in lease) return;
          if (turn % 3 === 0) await sleep(2);
          const cost = turn % 2 === 0 ? amount : amount / 3n;
          await lease.settle({ cost, model: "gpt" });
          spent += cost;
          expect(spent).toBeLessThanOrEqual(counter.limit);
        }
      };
      const over = Promise.all(Array.from({ length: atATime }, (_, lane) => spendOn(lane)));
      return { budgets, ticks, over };
    });
    for (const { over } of processes) await over;
    for (const { budgets, ticks } of processes) {
      clearInterval(ticks);
      await budgets.close();
    }
    expect(await store.read([counter])).toEqual([{ spent, held: 0n }]);
    expect(spent).toBeGreaterThan(counter.limit - 60n);
  }, 60_000);

  test("what a dead process had ahead stays spent where it may hide what others spent", async () => {
    if (typeof redis === "string") return;
    const clock = { ms: testTimeMs };
    const prefix = `test-${randomUUID()}`;
    const options = { redis, leaseTtlMs, advanceMs, prefix, now: () => clock.ms };
    const store = createRedisBudgets(options);
    const [hiding, plain] = [counterNamed("hiding"), counterNamed("plain")];
    const wanted = { held: 0n, ahead: 100n };
    const nothing = { settled: 0n, held: 0n, free: 0n, ahead: 0n, unit: 1n };
    for (const counter of [hiding, plain]) {
      await store.raise([{ counter: { ...counter, limit: 10_000n }, spent: 7n }]);
      clock.ms += 1;
      const late = { cost: 0n, sinceMs: 0 };
      const told = { counter: { ...counter, limit: 10_000n }, isKnown: false, late, wanted };
      await store.account("dead", [{ ...told, ...nothing }]);
      expect(await store.read([counter])).toEqual([{ spent: 7n, held: 100n }]);
    }
    await store.raise([{ counter: hiding, spent: 500n }]);
    clock.ms += leaseTtlMs + advanceMs;
    const words = [hiding, plain].map(({ name }) => ({ name, settled: 40n }));
    expect(await store.lastWord("dead", words)).toEqual([]);
    expect(await store.read([hiding, plain])).toEqual([
      { spent: 500n, held: 0n },
      { spent: 47n, held: 0n },
    ]);
  });

  test("a settlement counts once, whether its answer was lost, or its word, or that comes after it was said again", async () => {
    if (typeof redis === "string") return;
    const lost: { how: "answer" | "word" | "late" | undefined; late: (() => Promise<unknown>)[] } =
      {
        how: undefined,
        late: [],
      };
    const line = {
      async evalsha(...words: Parameters<typeof redis.evalsha>) {
        const say = () => redis.evalsha(...words);
        if (lost.how === undefined) return say();
        if (lost.how === "answer") await say();
        if (lost.how === "late") lost.late.push(say);
        throw new Error("lost");
      },
      eval: redis.eval.bind(redis),
    };
    const prefix = `test-${randomUUID()}`;
    const options = { leaseTtlMs, advanceMs, prefix };
    const store = createRedisBudgets({ redis: line as never, ...options });
    const counter = { ...counterNamed("said again"), limit: 10_000n };
    await store.raise([{ counter, spent: 0n }]);
    let spent = 0n;
    for (const how of ["answer", "word", "late"] as const) {
      // Whoever compares meanwhile may know of it by the ledger.
      for (const isRaised of [false, true]) {
        const asked = { requestId: randomUUID(), holds: [hold(counter, 100n)] };
        const lease = await store.reserve(asked);
        if (!("settle" in lease)) throw new Error("there is room");
        lost.how = how;
        await expect(lease.settle({ cost: 70n, model: "gpt" })).rejects.toThrow("lost");
        lost.how = undefined;
        spent += 70n;
        if (isRaised) await store.raise([{ counter, spent }]);
        await lease.settle({ cost: 70n, model: "gpt" });
        for (const say of lost.late.splice(0)) await say();
        expect(await store.read([counter])).toEqual([{ spent, held: 0n }]);
      }
    }
    // What a process holds, told in the wrong order.
    const account = (settled: bigint) => ({
      counter,
      isKnown: settled > 0n,
      settled,
      late: { cost: 0n, sinceMs: 0 },
      held: 0n,
      free: 0n,
      ahead: 0n,
      wanted: { held: 100n, ahead: 0n },
      unit: 1n,
    });
    await store.account("one", [account(0n)]);
    lost.how = "late";
    await expect(store.account("one", [account(40n)])).rejects.toThrow("lost");
    lost.how = undefined;
    await store.account("one", [account(60n)]);
    spent += 60n;
    for (const say of lost.late.splice(0)) await say();
    expect(await store.read([counter])).toEqual([{ spent, held: 100n }]);
    await store.account("one", [{ ...account(60n), wanted: { held: 0n, ahead: 0n } }]);
    expect(await store.read([counter])).toEqual([{ spent, held: 0n }]);

    // A reservation that was heard and not answered.
    const unanswered = { requestId: randomUUID(), holds: [hold(counter, 100n)] };
    lost.how = "answer";
    await expect(store.reserve(unanswered)).rejects.toThrow("lost");
    lost.how = undefined;
    expect(await store.read([counter])).toEqual([{ spent, held: 100n }]);
    await store.cancel(unanswered);
    expect(await store.read([counter])).toEqual([{ spent, held: 0n }]);
  });

  test("Redis and the model say the same of every word", async () => {
    if (typeof redis === "string") return;
    // Beyond what a double counts exactly.
    const amount = fc.bigInt({ min: 0n, max: 2n * 10n ** 16n });
    const step = fc.record({
      type: fc.constantFrom("reserve", "settle", "account", "account", "raise", "lastWord"),
      waitMs: fc.oneof(fc.nat({ max: 500 }), fc.nat({ max: 40_000 })),
      owner: fc.constantFrom("a", "b"),
      which: fc.nat({ max: 1 }),
      isKnown: fc.boolean(),
      lateMs: fc.oneof(fc.constant(0), fc.nat({ max: 20_000 })),
      amounts: fc.tuple(amount, amount, amount, amount, amount, amount),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const clock = { ms: testTimeMs };
        const now = () => clock.ms;
        const prefix = `test-${randomUUID()}`;
        const stores: SharedBudgets[] = [
          createModelBudgets({ now, leaseTtlMs, advanceMs }),
          createRedisBudgets({ redis, leaseTtlMs, advanceMs, now, prefix }),
        ];
        const counters = [counterNamed("hard"), counterNamed("soft", { hard: false })].map(
          (counter) => ({ ...counter, limit: 70_000n * 10n ** 12n + 1n }),
        );
        for (const store of stores)
          await store.raise(counters.map((counter) => ({ counter, spent: 5n })));
        const leases: BudgetLease[][] = [];
        const settled = new Map<string, bigint>();
        for (const { type, waitMs, owner, which, isKnown, lateMs, amounts } of steps) {
          clock.ms += waitMs;
          const counter = counters[which] as Counter;
          const [first, second, third, fourth, fifth, sixth] = amounts;
          const results: unknown[] = [];
          const granted: BudgetLease[] = [];
          const requestId = randomUUID();
          const name = `${owner}${which}`;
          settled.set(name, (settled.get(name) ?? 0n) + (type === "account" ? first / 1000n : 0n));
          const isStale = type === "account" && lateMs % 10 === 9;
          for (const store of stores) {
            if (type === "reserve") {
              const holds = [hold(counter, first), hold(counters[1 - which] as Counter, second)];
              const answer = await store.reserve({ requestId, holds }).catch((error) => error);
              results.push("settle" in answer ? "granted" : answer);
              if ("settle" in answer) granted.push(answer);
            } else if (type === "account") {
              const account = {
                counter,
                isKnown,
                settled: (settled.get(name) ?? 0n) / (isStale ? 2n : 1n),
                late: { cost: sixth / 1000n, sinceMs: lateMs },
                held: second / 10n + third / 10n,
                free: third / 10n,
                ahead: fourth / 10n,
                wanted: { held: fifth, ahead: sixth },
                unit: first / 10n,
              };
              results.push(await store.account(owner, [account]));
            } else if (type === "raise") {
              results.push(await store.raise([{ counter, spent: first }]));
            } else if (type === "lastWord") {
              const words = [{ name: counter.name, settled: (settled.get(name) ?? 0n) + third }];
              results.push(await store.lastWord(owner, words));
            } else
              results.push(
                await leases[0]?.[results.length]?.settle({ cost: second, model: "gpt" }),
              );
            results[results.length - 1] = [results.at(-1), await store.read(counters)];
          }
          if (type === "settle") leases.shift();
          if (granted.length > 0) leases.push(granted);
          expect(results[1]).toEqual(results[0]);
        }
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});

function openWorld({ limit = 10_000n, advancesMax = 10 } = {}) {
  const clock = { ms: testTimeMs };
  const model = createModelBudgets({ now: () => clock.ms, leaseTtlMs, advanceMs });
  const counter = { ...counterNamed("total"), limit };
  const alive = new Set<LeasedBudgets>();
  const left = new Map<LeasedBudgets, { owner: string; words: Map<string, bigint> }>();
  const world = {
    clock,
    model,
    counter,
    /** What processes asked of the store, in order. */
    asked: [] as string[],
    rises: [] as Rise[],
    errors: [] as unknown[],
    settled: 0n,
    /** Whether words are lost before the store hears them, or its answers after. */
    loses: undefined as "before" | "after" | undefined,
    process(): LeasedBudgets {
      const shared: SharedBudgets = {
        ...model,
        async reserve(request) {
          world.asked.push("reserve");
          return model.reserve(request);
        },
        async account(owner, accounts) {
          world.asked.push("account");
          if (world.loses === "before") throw new Error("lost before");
          const answers = await model.account(owner, accounts);
          if (world.loses === "after") throw new Error("lost after");
          return answers;
        },
      };
      const owner = randomUUID();
      const words = new Map<string, bigint>();
      const made = createLeasedBudgets({
        shared,
        owner,
        clockMs: () => clock.ms,
        // Those that live go on while one of them waits.
        async sleep(ms) {
          clock.ms += ms;
          if (clock.ms % 100 < ms) for (const one of alive) await one.tick();
        },
        leaseTtlMs,
        advanceMs,
        idleMs: 1_000,
        recallMs: 1_000,
        advancesMax,
        notedMax: 10,
        onSettled(name, settled) {
          if (settled === undefined) words.delete(name);
          else words.set(name, settled);
        },
        onRise: (rises) => world.rises.push(...rises),
        onLost: () => {},
        onError: (error) => world.errors.push(error),
      });
      alive.add(made);
      left.set(made, { owner, words });
      return made;
    },
    /** Says the last word of one that died. @returns where it counts as living */
    async bury(process: LeasedBudgets): Promise<string[]> {
      const { owner, words } = left.get(process) ?? { owner: "", words: new Map<string, bigint>() };
      return model.lastWord(
        owner,
        [...words].map(([name, settled]) => ({ name, settled })),
      );
    },
    die(process: LeasedBudgets): void {
      alive.delete(process);
    },
    async take(process: LeasedBudgets, amount: bigint, of = counter): Promise<BudgetLease> {
      const asked = { requestId: randomUUID(), holds: [hold(of, amount)] };
      const lease = await process.reserve(asked);
      if (!("unknown" in lease)) return lease;
      await process.raise([{ counter: of, spent: 0n }]);
      return world.take(process, amount, of);
    },
    async spend(process: LeasedBudgets, amount: bigint, cost = amount): Promise<void> {
      await (await world.take(process, amount)).settle({ cost, model: "gpt" });
      world.settled += cost;
    },
    async wait(ms: number, process: LeasedBudgets): Promise<void> {
      for (const until = clock.ms + ms; clock.ms < until; ) {
        clock.ms = Math.min(until, clock.ms + 100);
        await process.tick();
      }
    },
  };
  return world;
}

function hold(counter: Counter, amount: bigint): Hold {
  return { counter, amount, models: new Set(["gpt"]) };
}

function counterNamed(id: string, budget: Partial<Budget> = {}): Counter {
  return counterOf(
    { type: "key", id, projectId: "p" },
    { limitUsd: "0.00000001", period: "total", ...budget },
    { user: undefined, model: undefined, atMs: 0 },
  );
}

const sumOf = (rises: readonly Rise[]) =>
  rises.reduce((all, { before, after }) => all + after - before, 0n);
