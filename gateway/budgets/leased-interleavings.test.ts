/**
 * Every order in which processes that hold money ahead, their words to the shared store, its answers, losses and deaths can
 * come. The processes under test are those that run; `leased-budgets.test.ts` holds Redis to the model that is shared here.
 */
import { expect, test } from "vitest";
import { counterOf } from "./counters.ts";
import { createLeasedBudgets, type LeasedBudgets } from "./leased-budgets.ts";
import { createModelBudgets, type ModelLease } from "./testing.ts";
import type { BudgetLease, SharedBudgets } from "./types.ts";

/** Its sixteenth is four requests of one, and its sixty-fourth one. */
const limit = 80n;
/** Requests until the first process holds both of what can be held ahead. */
const warmTurns = 4;
const leaseTtlMs = 60_000;
const advanceMs = 5_000;
const counter = {
  ...counterOf(
    { type: "key", id: "k", projectId: "p" },
    { limitUsd: "0.00000000008", period: "total" },
    { user: undefined, model: undefined, atMs: 0 },
  ),
  limit,
};

/** A word on its way to the store, and the answer on its way back. */
type Word = {
  by: number;
  /** It goes nowhere and is never lost. */
  isTimer: boolean;
  carry: () => Promise<unknown>;
  answer?: { value: unknown } | { error: unknown };
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
};
type Process = {
  budgets: LeasedBudgets;
  isDead: boolean;
  isAway: boolean;
  history: string[];
  /** What it left in its file of all that it settled. */
  settled: bigint | undefined;
};
type Actor = {
  by: number;
  steps: readonly Step[];
  next: number;
  lease?: BudgetLease;
  isBusy: boolean;
};
type Step =
  | { type: "take" | "settle"; amount: bigint }
  | { type: "tick" | "resume" | "compare" | "die" | "bury" };
type World = {
  clock: { ms: number };
  model: ReturnType<typeof createModelBudgets>;
  processes: Process[];
  actors: Actor[];
  words: Word[];
  losses: number;
  hasLost: boolean;
  /** Costs of requests that were settled, and of those whose settlement was acknowledged: the ledger may know them. */
  settled: bigint;
  inLedger: bigint;
  living: bigint;
  /** What the dead were settling when they died: some of it counts. */
  unheard: bigint;
  others: BudgetLease;
};

const take = (amount: bigint): Step => ({ type: "take", amount });
const settle = (amount: bigint): Step => ({ type: "settle", amount });
const tick: Step = { type: "tick" };
const resume: Step = { type: "resume" };
/** Raises the store to what the ledger knows, as every process does at times. */
const compare: Step = { type: "compare" };
const die: Step = { type: "die" };
/** Says the last word of the first process, should that be dead, when its time is over. */
const bury: Step = { type: "bury" };

/** The first process holds something ahead when they begin, and so much is left of the budget besides. */
type Scene = { left: bigint; losses: number; actors: [by: number, ...Step[]][] };

const scenes: Record<string, Scene> = {
  "one wants what another holds and does not need": {
    left: 1n,
    losses: 0,
    actors: [
      [0, take(1n), settle(1n)],
      [1, take(3n), settle(3n)],
      [0, tick],
    ],
  },
  "two requests of one process, and nothing is left besides": {
    left: 0n,
    losses: 0,
    actors: [
      [0, take(1n), settle(1n), take(1n), settle(0n)],
      [0, take(2n), settle(2n)],
    ],
  },
  "one that dies while it spends": {
    left: 2n,
    losses: 0,
    actors: [
      [0, take(1n), settle(1n)],
      [0, die],
      [1, take(4n), settle(4n)],
    ],
  },
  "one that dies while it spends, and whose last word another says": {
    // Enough that something is held ahead and not spent.
    left: 66n,
    losses: 0,
    actors: [
      [0, tick, take(1n), settle(1n)],
      [0, die],
      [1, bury, take(68n), settle(68n)],
    ],
  },
  "one that dies unheard, and whose last word another says, who knows of it by the ledger or does not":
    {
      left: 66n,
      losses: 1,
      actors: [
        [0, tick, take(1n), settle(3n)],
        [0, die],
        [1, compare, bury],
      ],
    },
  "words and answers that are lost, and said again": {
    left: 2n,
    losses: 1,
    actors: [
      [0, take(1n), settle(1n)],
      [0, resume],
      [1, take(3n)],
    ],
  },
  "words and answers that are lost, and what they said is learned from the ledger before": {
    left: 20n,
    losses: 1,
    actors: [
      [0, take(1n), settle(5n)],
      [0, resume],
      [1, compare],
    ],
  },
  "a request that was asked for by itself, and whose settlement may not have been heard": {
    left: 20n,
    losses: 1,
    actors: [
      [1, take(3n), settle(2n)],
      [1, resume],
      [0, compare],
    ],
  },
  "a request that costs more than it reserved, and words that are lost": {
    left: 20n,
    losses: 2,
    actors: [
      [0, take(1n), settle(5n)],
      [0, tick, resume],
    ],
  },
};

test.each(Object.entries(scenes))(
  "%s",
  async (_name, scene) => {
    const states = await explore(scene);
    expect(states).toBeGreaterThan(50);
  },
  120_000,
);

/** Visits every state that some order leads to, each once, and returns how many there are. */
async function explore(scene: Scene): Promise<number> {
  const seen = new Set<string>();
  const paths: number[][] = [[]];
  for (let path = paths.pop(); path; path = paths.pop()) {
    const world = await open(scene);
    for (const choice of path) await choicesOf(world)[choice]?.();
    const state = stateOf(world);
    if (seen.has(state)) continue;
    seen.add(state);
    if (seen.size > 30_000) throw new Error("too many");
    await check(world);
    const choices = choicesOf(world);
    for (const index of choices.keys()) paths.push([...path, index]);
    if (choices.length === 0) await checkEnd(world);
  }
  return seen.size;
}

async function check({ model, processes, settled, inLedger, living }: World): Promise<void> {
  const { spent, held } = (await model.read([counter]))[0] ?? { spent: 0n, held: 0n };
  expect(settled + living).toBeLessThanOrEqual(limit);
  expect(spent + held).toBeLessThanOrEqual(limit);
  // What is spent ahead is told as held. So no process is given what another may have spent, nor is it counted again.
  // Only while the store is away a settlement does not wait for it.
  const isHeard = processes.every(({ isAway }) => !isAway);
  if (isHeard) expect(spent + held).toBeGreaterThanOrEqual(inLedger + living);
}

/** Whatever has happened: what is not spent can be spent, by whoever lives, when the dead are past their time. */
async function checkEnd(world: World): Promise<void> {
  const { processes, model, clock } = world;
  for (const { budgets, isDead } of processes) {
    if (isDead) continue;
    const closed = Promise.all([budgets.resume(), budgets.close()]);
    await carryAll(world);
    await closed;
  }
  await compareAll(world);
  const someDied = processes.some(({ isDead }) => isDead);
  // What was granted to the dead, or in an answer that was lost, comes back with time.
  const isLate = someDied || world.hasLost;
  if (isLate) clock.ms += leaseTtlMs + advanceMs;
  const { spent, held } = (await model.read([counter]))[0] ?? { spent: 0n, held: 0n };
  expect(held).toBe(isLate ? 0n : world.living);
  if (!someDied) expect(spent).toBe(world.settled);
  expect(spent).toBeGreaterThanOrEqual(world.inLedger);
  expect(spent).toBeLessThanOrEqual(limit);
}

async function open({ left, losses, actors }: Scene): Promise<World> {
  const clock = { ms: 0 };
  const model = createModelBudgets({ now: () => clock.ms, leaseTtlMs, advanceMs });
  const world: World = {
    clock,
    model,
    processes: [],
    actors: actors.map(([by, ...steps]) => ({ by, steps, next: 0, isBusy: false })),
    words: [],
    losses,
    hasLost: false,
    settled: 0n,
    inLedger: 0n,
    living: 0n,
    unheard: 0n,
    others: undefined as never,
  };
  await model.raise([{ counter, spent: 0n }]);
  for (const by of [0, 1]) world.processes.push(openProcess(world, by));
  const [first] = world.processes as [Process];
  for (let turn = 0; turn < warmTurns; turn++) {
    const spent = ask(first.budgets, 1n, `warm-${turn}`).then((lease) =>
      lease?.settle({ cost: 1n, model: "gpt" }),
    );
    await carryAll(world);
    await spent;
  }
  // Somebody else's request, which goes on.
  const { spent, held } = (await model.read([counter]))[0] ?? { spent: 0n, held: 0n };
  const others = limit - spent - held - left;
  expect(held).toBeGreaterThanOrEqual(3n);
  world.others = (await model.reserve({
    requestId: "others",
    holds: [holdOf(others)],
  })) as BudgetLease;
  world.settled = BigInt(warmTurns);
  world.inLedger = BigInt(warmTurns);
  world.living = others;
  return world;
}

function openProcess(world: World, by: number): Process {
  const { clock, model, words } = world;
  const send = <T>(carry: () => Promise<T>, isTimer = false): Promise<T> =>
    new Promise((resolve, reject) => {
      words.push({ by, isTimer, carry, resolve: resolve as Word["resolve"], reject });
    });
  const shared: SharedBudgets = {
    ...model,
    async reserve(request) {
      const answer = await send(() => model.reserve(request));
      if (!("settle" in answer)) return answer;
      let saidAtMs: number | undefined;
      return {
        settle(spent) {
          const before = saidAtMs;
          saidAtMs ??= clock.ms;
          return send(() => (answer as ModelLease).settle(spent, before));
        },
      };
    },
    cancel: (request) => send(() => model.cancel(request)),
    raise: (spending) => send(() => model.raise(spending)),
    account: (owner, accounts) => send(() => model.account(owner, accounts)),
  };
  const process: Process = { isDead: false, isAway: false, history: [] } as never;
  process.budgets = createLeasedBudgets({
    shared,
    owner: String(by),
    clockMs: () => clock.ms,
    // A recall may take one round.
    sleep: (ms) =>
      send(async () => {
        clock.ms += 24 * ms;
      }, true),
    leaseTtlMs,
    advanceMs,
    idleMs: 1_000,
    recallMs: 500,
    advancesMax: 10,
    notedMax: 10,
    onSettled: (_name, settled) => {
      process.settled = settled;
    },
    onRise: () => {},
    onLost: () => {},
    onError: () => {
      process.isAway = true;
    },
  });
  return process;
}

/** What may happen next, each in an order of its own. */
function choicesOf(world: World): (() => Promise<void>)[] {
  const choices: (() => Promise<void>)[] = [];
  for (const actor of world.actors) {
    const { by, steps, next, isBusy } = actor;
    const step = steps[next];
    if (!step || isBusy || world.processes[by]?.isDead) continue;
    choices.push(() => perform(world, actor, step));
  }
  for (const [by, { isDead }] of world.processes.entries()) {
    // A process has one connection, on which words and answers keep their order.
    const words = world.words.filter((word) => word.by === by && !word.isTimer);
    const timer = world.words.find((word) => word.by === by && word.isTimer);
    if (timer) choices.push(() => carry(timer).then(() => arrive(world, timer)));
    const first = words[0];
    const unheard = words.find(({ answer }) => answer === undefined);
    if (unheard) choices.push(() => carry(unheard));
    if (isDead || !first) continue;
    if (first.answer) choices.push(() => arrive(world, first));
    if (world.losses > 0) choices.push(() => lose(world, first));
  }
  return choices;
}

async function perform(world: World, actor: Actor, step: Step): Promise<void> {
  const process = world.processes[actor.by] as Process;
  const index = world.actors.indexOf(actor);
  process.history.push(`${index}:${actor.next}`);
  actor.next++;
  actor.isBusy = true;
  const done = () => {
    actor.isBusy = false;
    process.history.push(`done ${index}`);
  };
  switch (step.type) {
    case "take": {
      const asked = ask(process.budgets, step.amount, `${index}-${actor.next}`);
      void asked.then((lease) => {
        if (process.isDead) return;
        if (lease) {
          actor.lease = lease;
          world.living += step.amount;
        } else actor.next = actor.steps.length;
        done();
      });
      break;
    }
    case "settle": {
      const taken = actor.steps[actor.next - 2] as { amount: bigint };
      world.living -= taken.amount;
      world.settled += step.amount;
      const settled = actor.lease?.settle({ cost: step.amount, model: "gpt" });
      void settled?.then(() => {
        if (process.isDead) return;
        world.inLedger += step.amount;
        done();
      });
      break;
    }
    case "tick":
      void process.budgets.tick().then(done);
      break;
    case "resume":
      void process.budgets
        .resume()
        .then(() => compareAll(world))
        .then(() => {
          process.isAway = false;
          done();
        }, done);
      break;
    case "compare":
      void process.budgets.raise([{ counter, spent: world.inLedger }]).then(done, done);
      break;
    case "bury":
      if (world.processes[0]?.isDead) await buryFirst(world);
      done();
      break;
    case "die": {
      process.isDead = true;
      for (const other of world.actors.filter(({ by }) => by === actor.by)) {
        const before = other.steps[other.next - 1];
        // What it was about to settle and had not acknowledged is lost with it.
        if (other.lease && before?.type === "take") world.living -= before.amount;
        if (!other.isBusy || before?.type !== "settle") continue;
        world.settled -= before.amount;
        world.unheard += before.amount;
      }
      break;
    }
    default:
      step satisfies never;
  }
  await quiet();
}

/** Says what the first process left, and finds that no more comes back than it did not spend. */
async function buryFirst(world: World): Promise<void> {
  const { model, clock, others, processes } = world;
  // What else was under way has ended by then.
  if (world.living > 0n) {
    const [before] = await model.read([counter]);
    await others.settle({ cost: 0n, model: "gpt" });
    const [after] = await model.read([counter]);
    world.living -= (before?.held ?? 0n) - (after?.held ?? 0n);
  }
  clock.ms += leaseTtlMs + advanceMs;
  const [before] = await model.read([counter]);
  const settled = processes[0]?.settled;
  if (settled === undefined) return;
  await model.lastWord("0", [{ name: counter.name, settled }]);
  const [after] = await model.read([counter]);
  const known = world.inLedger;
  if ((before?.spent ?? 0n) >= known) expect(after?.spent).toBeGreaterThanOrEqual(known);
  if (world.hasLost) return;
  expect(after?.spent).toBeGreaterThanOrEqual(world.settled);
  expect(after?.spent).toBeLessThanOrEqual(world.settled + world.unheard);
}

/** As every budget is with the ledger, when a process has been away and at times. */
async function compareAll({ model, inLedger }: World): Promise<void> {
  await model.raise([{ counter, spent: inLedger }]);
}

async function carry(word: Word): Promise<void> {
  word.answer = await word.carry().then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

async function arrive(world: World, word: Word): Promise<void> {
  const { answer } = word;
  world.words.splice(world.words.indexOf(word), 1);
  const told = JSON.stringify(answer, (_key, it) => (typeof it === "bigint" ? `${it}` : it));
  world.processes[word.by]?.history.push(told);
  if (answer && "error" in answer) word.reject(answer.error);
  else word.resolve(answer?.value);
  await quiet();
}

/** The process never learns whether it was heard. */
async function lose(world: World, word: Word): Promise<void> {
  world.words.splice(world.words.indexOf(word), 1);
  world.losses--;
  world.hasLost = true;
  world.processes[word.by]?.history.push("lost");
  word.reject(new Error("the connection is gone"));
  await quiet();
}

async function carryAll(world: World): Promise<void> {
  for (await quiet(); world.words.length > 0; ) {
    const word = world.words[0] as Word;
    await carry(word);
    await arrive(world, word);
  }
}

function ask(budgets: LeasedBudgets, amount: bigint, requestId: string) {
  return budgets.reserve({ requestId, holds: [holdOf(amount)] }).then(
    (lease) => ("unknown" in lease ? undefined : lease),
    () => undefined,
  );
}

function holdOf(amount: bigint) {
  return { counter, amount, models: new Set(["gpt"]) };
}

/** What a process knows follows from what it did and heard, in its order. */
function stateOf({ model, processes, words, actors, ...world }: World): string {
  return JSON.stringify([
    model.dump(),
    processes.map(({ history, isDead, isAway }) => [history, isDead, isAway]),
    words.map(({ by, answer }) => [by, answer !== undefined]),
    actors.map(({ next, isBusy }) => [next, isBusy]),
    [world.clock.ms, world.losses],
    [world.settled, world.inLedger, world.living].map(String),
  ]);
}

/** Everything that can go on without a word has gone on. */
async function quiet(): Promise<void> {
  for (let turn = 0; turn < 25; turn++) await undefined;
}
