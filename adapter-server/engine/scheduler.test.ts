/** The scheduler's decisions, one at a time, with a clock that only the test moves. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { rowsOfStepMax } from "./admission.ts";
import { BlockManager } from "./block-manager.ts";
import type { SchedulerLimits } from "./scheduler.ts";
import { Scheduler } from "./scheduler.ts";
import type { SequenceRequest } from "./sequence.ts";
import { SlotTable } from "./slot-table.ts";
import type { StepPlan } from "./step-plan.ts";

const limits: SchedulerLimits = {
  stepTokensMax: 16,
  prefillChunkMax: 8,
  speculationTokensMax: 0,
  sequencesMax: 4,
  waitingMax: 8,
  waitMsMax: 1_000_000,
  slotWaitMsMax: 1000,
  priorityAgeMs: 100,
};

function setup(
  options: {
    limits?: Partial<SchedulerLimits>;
    blocks?: number;
    slots?: number;
    prefixCache?: boolean;
    singleWeights?: boolean;
  } = {},
) {
  const clock = { ms: 0 };
  const blocks = new BlockManager({ blocks: options.blocks ?? 65, blockSize: 4 });
  const slots = new SlotTable(options.slots ?? 2);
  const scheduler = new Scheduler({
    limits: { ...limits, ...options.limits },
    blocks,
    slots,
    prefixCache: options.prefixCache ?? false,
    singleWeights: options.singleWeights ?? false,
    nowMs: () => clock.ms,
  });
  return { scheduler, blocks, slots, clock };
}

function sequence(
  id: number,
  options: Partial<SequenceRequest> & { length?: number } = {},
): SequenceRequest {
  const { length = 4, ...rest } = options;
  return {
    id,
    prompt: Array.from({ length }, (_, index) => index + 1),
    maxTokens: 4,
    sampling: { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 },
    stopIds: [0],
    tenant: "a",
    ...rest,
  };
}

/** Commits the plan; every row that asks for a token gets this one. */
function commit(scheduler: Scheduler, plan: StepPlan, token = 9) {
  const rows = [...plan.decode, ...plan.prefill];
  return scheduler.commit(
    rows.map((row) => ({ type: "computed", row, chosen: row.samples > 0 ? [{ token }] : [] })),
  );
}

function step(scheduler: Scheduler) {
  const plan = scheduler.plan();
  return { plan, events: commit(scheduler, plan) };
}

const ids = (rows: readonly { sequenceId: number }[]) => rows.map((row) => row.sequenceId);

test("a prompt longer than a chunk is computed in chunks, and only the last asks for a token", () => {
  const { scheduler } = setup();
  scheduler.add(sequence(1, { length: 18 }));
  const chunks = [1, 2, 3].map(() => step(scheduler).plan.prefill[0]);
  expect(chunks.map((row) => [row?.position, row?.tokens.length, row?.samples])).toEqual([
    [0, 8, 0],
    [8, 8, 0],
    [16, 2, 1],
  ]);
  expect(scheduler.plan().decode).toMatchObject([{ position: 18, tokens: [9], samples: 1 }]);
});

test("who cannot tell its next token yet asks again, for the same one and from the same place", () => {
  const { scheduler, blocks } = setup({ prefixCache: true });
  scheduler.add(sequence(1, { length: 8 }));
  const late = (plan: StepPlan) =>
    scheduler.commit(
      [...plan.decode, ...plan.prefill].map((row) => ({ type: "computed", row, chosen: [] })),
    );
  expect(late(scheduler.plan())).toEqual([]);
  for (let again = 0; again < 2; again++) {
    const plan = scheduler.plan();
    expect(plan.decode).toMatchObject([{ position: 7, tokens: [8], samples: 1 }]);
    if (again < 1) late(plan);
    else expect(commit(scheduler, plan)).toMatchObject([{ id: 1, token: 9 }]);
    blocks.check();
  }
  expect(scheduler.plan().decode).toMatchObject([{ position: 8, tokens: [9] }]);
});

test("a step decodes those who run before it takes in new prompts, within its budget", () => {
  const { scheduler } = setup({ limits: { stepTokensMax: 10 } });
  scheduler.add(sequence(1));
  step(scheduler);
  scheduler.add(sequence(2, { length: 8 }));
  scheduler.add(sequence(3, { length: 8 }));
  const { plan } = step(scheduler);
  expect(ids(plan.decode)).toEqual([1]);
  expect(plan.prefill.map((row) => [row.sequenceId, row.tokens.length])).toEqual([
    [2, 8],
    [3, 1],
  ]);
});

test("guesses that hold leave room in the step for a prompt that comes", () => {
  const limits = { stepTokensMax: 8, speculationTokensMax: 8 };
  const { scheduler } = setup({ limits });
  scheduler.add(sequence(1, { prompt: [9, 9, 9, 9], maxTokens: 40 }));
  step(scheduler);
  scheduler.add(sequence(2, { length: 8 }));
  const { decode, prefill } = scheduler.plan();
  expect(decode[0]?.samples).toBeGreaterThan(1);
  expect(ids(prefill)).toEqual([2]);
});

test("a sequence ends at a stop token, or at its last allowed token, and gives everything back", () => {
  const { scheduler, blocks } = setup();
  scheduler.add(sequence(1, { stopIds: [9] }));
  scheduler.add(sequence(2, { maxTokens: 2 }));
  expect(step(scheduler).events).toEqual([
    { id: 1, token: 9, finish: "stop", cachedTokens: 0, queuedMs: 0 },
    { id: 2, token: 9, cachedTokens: 0, queuedMs: 0 },
  ]);
  expect(step(scheduler).events).toEqual([{ id: 2, token: 9, finish: "length" }]);
  expect(scheduler.isIdle).toBe(true);
  expect(blocks.used).toBe(0);
});

test("a plan that is not committed is planned again with the same rows", () => {
  const { scheduler } = setup();
  scheduler.add(sequence(1, { length: 12 }));
  const first = scheduler.plan();
  const second = scheduler.plan();
  expect(second.prefill).toEqual(first.prefill);
  scheduler.check();
});

test("a tenant that fills the queue keeps out only itself: its youngest makes way for others", () => {
  const { scheduler } = setup({ limits: { waitingMax: 4 } });
  for (let id = 1; id <= 4; id++) scheduler.add(sequence(id, { tenant: "flood" }));
  expect(scheduler.add(sequence(5, { tenant: "quiet" }))).toMatchObject([
    { id: 4, error: { code: "rate_limit_exceeded" } },
  ]);
  expect(() => scheduler.add(sequence(6, { tenant: "flood" }))).toThrow(HubError);
  expect(scheduler.add(sequence(7, { tenant: "quiet" }))).toMatchObject([{ id: 3 }]);
  // They wait with two each now, and the next has to come back whoever it is.
  expect(() => scheduler.add(sequence(8, { tenant: "quiet" }))).toThrow(HubError);
  expect(() => scheduler.add(sequence(9, { tenant: "flood" }))).toThrow(HubError);
  expect(scheduler.stats().waiting).toBe(4);
});

test("where nobody of the largest crowd may be sent away, one of the next is", () => {
  const { scheduler } = setup({ blocks: 5, limits: { waitingMax: 3, sequencesMax: 2 } });
  scheduler.add(sequence(1, { tenant: "spoken", length: 4, maxTokens: 12 }));
  scheduler.add(sequence(2, { tenant: "spoken", length: 4, maxTokens: 12, priority: 1 }));
  while (scheduler.stats().preemptions === 0) step(scheduler);
  scheduler.add(sequence(3, { tenant: "spoken", priority: 1, length: 4 }));
  scheduler.add(sequence(4, { tenant: "other", priority: 1, length: 4 }));
  expect(scheduler.stats().waiting).toBe(3);
  expect(scheduler.add(sequence(5, { tenant: "spoken" }))).toMatchObject([{ id: 3 }]);
  expect(scheduler.add(sequence(6, { tenant: "spoken" }))).toMatchObject([{ id: 4 }]);
  expect(() => scheduler.add(sequence(7, { tenant: "spoken" }))).toThrow(HubError);
});

test("who hears together that there is no room is told different times, none before there may be some", () => {
  const { scheduler, clock } = setup({ limits: { waitingMax: 2 } });
  scheduler.add(sequence(1));
  scheduler.add(sequence(2));
  clock.ms = 10_000;
  const times = Array.from(
    { length: 20 },
    (_, index) => catchHubError(() => scheduler.add(sequence(3 + index))).retryAfterMs ?? 0,
  );
  expect(new Set(times).size).toBe(times.length);
  expect(Math.min(...times)).toBeGreaterThanOrEqual(20_000);
  expect(Math.max(...times)).toBeLessThanOrEqual(30_000);
  // Evenly, so that no two come nearly together.
  const sorted = times.toSorted((a, b) => a - b);
  const gaps = sorted.slice(1).map((time, index) => time - sorted[index]!);
  expect(Math.max(...gaps)).toBeLessThan(3 * (10_000 / times.length));
});

test("choices of one request that find too few places let others pass, and not for ever", () => {
  const { scheduler, clock } = setup({ limits: { slotWaitMsMax: 100 } });
  let id = 0;
  const single = () => scheduler.add(sequence(++id, { maxTokens: 3, stopIds: [] }));
  for (let count = 0; count < 2; count++) single();
  step(scheduler);
  const family = [101, 102, 103, 104];
  for (const member of family) scheduler.add(sequence(member, { family: 1, maxTokens: 3 }));
  const running = () => family.filter((member) => scheduler.sequence(member)?.tokens.length !== 4);
  let passed = 0;
  for (let steps = 0; steps < 200 && running().length === 0; steps++) {
    const before = id;
    while (scheduler.stats().waiting < 7) single();
    clock.ms += 10;
    step(scheduler);
    passed += id - before;
  }
  expect(passed).toBeGreaterThan(5);
  // Its turn came a hundred milliseconds and an answer's few steps later.
  expect(running().length).toBeGreaterThan(0);
  expect(clock.ms).toBeLessThanOrEqual(200);
});

test("nobody waits for ever: who got no step in time is told to come back", () => {
  const { scheduler, clock } = setup({ limits: { sequencesMax: 1, waitMsMax: 500 } });
  scheduler.add(sequence(1, { maxTokens: 50 }));
  scheduler.add(sequence(2));
  step(scheduler);
  clock.ms = 500;
  expect(scheduler.expire()).toEqual([]);
  clock.ms = 501;
  expect(scheduler.expire()).toMatchObject([{ id: 2, error: { code: "server_is_overloaded" } }]);
  expect(scheduler.stats()).toMatchObject({ running: 1, waiting: 0 });
});

test("a sequence that lost its blocks after its first token is never sent away", () => {
  const { scheduler, clock } = setup({ blocks: 5, limits: { waitMsMax: 10 } });
  scheduler.add(sequence(1, { length: 4, maxTokens: 12 }));
  scheduler.add(sequence(2, { length: 4, maxTokens: 12 }));
  while (scheduler.stats().preemptions === 0) step(scheduler);
  clock.ms = 1000;
  expect(scheduler.stats().waiting).toBe(1);
  expect(scheduler.expire()).toEqual([]);
});

test("a full queue refuses with a time to come back", () => {
  const { scheduler } = setup({ limits: { waitingMax: 2 } });
  scheduler.add(sequence(1));
  scheduler.add(sequence(2));
  const refused = catchHubError(() => scheduler.add(sequence(3)));
  expect(refused.code).toBe("server_is_overloaded");
  expect(refused.retryAfterMs).toBeGreaterThan(0);
  scheduler.plan();
  scheduler.add(sequence(3));
  expect(scheduler.stats()).toMatchObject({ running: 2, waiting: 1 });
});

test("a request that the KV cache cannot hold even alone is refused with the counts", () => {
  const { scheduler } = setup({ blocks: 5 });
  const refused = catchHubError(() => scheduler.add(sequence(1, { length: 14 })));
  expect(refused.code).toBe("context_length_exceeded");
  expect(refused.message).toContain("16 tokens");
});

test("cancelling frees blocks and slot at once, running or waiting", () => {
  const { scheduler, blocks, slots } = setup({ limits: { sequencesMax: 1 } });
  scheduler.add(sequence(1, { adapter: "x" }));
  scheduler.add(sequence(2, { adapter: "y" }));
  step(scheduler);
  expect(scheduler.cancel(2)).toBe(true);
  expect(scheduler.cancel(1)).toBe(true);
  expect(scheduler.cancel(1)).toBe(false);
  expect(blocks.used).toBe(0);
  slots.check(() => 0);
});

test("when blocks run out the youngest makes way, and is computed anew with what it had generated", () => {
  // Seven blocks of four: two sequences of ten tokens take three each, at thirteen each needs a fourth.
  const { scheduler } = setup({ blocks: 8, limits: { prefillChunkMax: 16, stepTokensMax: 32 } });
  scheduler.add(sequence(1, { length: 8, maxTokens: 12 }));
  step(scheduler);
  scheduler.add(sequence(2, { length: 4, maxTokens: 12 }));
  let preempted: StepPlan | undefined;
  const finished: number[] = [];
  for (let i = 0; i < 40 && !scheduler.isIdle; i++) {
    const { plan, events } = step(scheduler);
    scheduler.check();
    const again = plan.prefill.find((row) => row.sequenceId === 2 && row.tokens.length > 4);
    if (again) preempted = plan;
    finished.push(...events.filter((event) => event.finish).map((event) => event.id));
  }
  expect(scheduler.stats().preemptions).toBeGreaterThan(0);
  expect(preempted?.prefill[0]?.tokens.slice(0, 5)).toEqual([1, 2, 3, 4, 9]);
  expect(finished).toEqual([1, 2]);
});

test("a prompt that is cached whole computes its last block, so that there is something to choose from", () => {
  const { scheduler, blocks } = setup({ prefixCache: true });
  scheduler.add(sequence(1, { length: 8, maxTokens: 1 }));
  step(scheduler);
  scheduler.add(sequence(2, { length: 8, maxTokens: 1 }));
  const { plan } = step(scheduler);
  expect(plan.prefill).toMatchObject([{ position: 4, tokens: [5, 6, 7, 8], samples: 1 }]);
  expect(blocks.used).toBe(0);
  scheduler.check();
});

test("blocks that others hold are no room that a newcomer needs", () => {
  // Of eight blocks the first takes five. The second needs five as well, four of them the same, and two are spare.
  const { scheduler } = setup({
    blocks: 9,
    prefixCache: true,
    limits: { prefillChunkMax: 16, stepTokensMax: 32 },
  });
  scheduler.add(sequence(1, { length: 17, maxTokens: 3 }));
  step(scheduler);
  scheduler.add(sequence(2, { length: 18, maxTokens: 2 }));
  expect(ids(step(scheduler).plan.prefill)).toEqual([2]);
  scheduler.check();
});

test("who was preempted begins where its blocks are still there, and pays only for the rest", () => {
  const { scheduler } = setup({
    blocks: 9,
    prefixCache: true,
    limits: { prefillChunkMax: 16, stepTokensMax: 32 },
  });
  scheduler.add(sequence(1, { length: 8, maxTokens: 12 }));
  step(scheduler);
  const prompt = [51, 52, 53, 54, 55, 56, 57, 58];
  scheduler.add(sequence(2, { prompt, maxTokens: 12 }));
  const positions: number[] = [];
  for (let i = 0; i < 60 && !scheduler.isIdle; i++) {
    const { plan } = step(scheduler);
    scheduler.check();
    for (const row of plan.prefill) if (row.sequenceId === 2) positions.push(row.position);
  }
  expect(scheduler.isIdle).toBe(true);
  expect(scheduler.stats().preemptions).toBeGreaterThan(0);
  expect(positions[0]).toBe(0);
  expect(positions.slice(1).some((position) => position > 0)).toBe(true);
});

test("the weights for single sequences compute who decodes by itself, whoever's prompt is there, and no prompt", () => {
  const { scheduler } = setup({ singleWeights: true });
  const single = ({ decode, prefill }: StepPlan) =>
    [...decode, ...prefill].filter(({ isSingle }) => isSingle).map((row) => row.sequenceId);
  scheduler.add(sequence(1, { maxTokens: 9 }));
  expect(single(step(scheduler).plan)).toEqual([]);
  expect(single(step(scheduler).plan)).toEqual([1]);
  scheduler.add(sequence(2));
  const { plan } = step(scheduler);
  expect([ids(plan.prefill), single(plan)]).toEqual([[2], [1]]);
  const both = step(scheduler).plan;
  expect([ids(both.decode), single(both)]).toEqual([[1, 2], []]);
  scheduler.cancel(2);
  expect(single(step(scheduler).plan)).toEqual([1]);

  const { scheduler: usual } = setup();
  usual.add(sequence(1));
  for (let i = 0; i < 3; i++) expect(single(step(usual).plan)).toEqual([]);
});

test("guesses and scores of prompts are computed with the usual weights", () => {
  const { scheduler } = setup({ singleWeights: true, limits: { speculationTokensMax: 8 } });
  scheduler.add(sequence(1, { prompt: [9, 9, 9, 9, 9], maxTokens: 30 }));
  const rows = Array.from({ length: 6 }, () => step(scheduler).plan.decode).flat();
  expect(rows.some(({ tokens }) => tokens.length > 1)).toBe(true);
  for (const row of rows) expect(row.isSingle ?? false).toBe(row.tokens.length === 1);

  const { scheduler: scoring } = setup({ singleWeights: true });
  scoring.add(sequence(1, { length: 2, promptLogprobs: 0 }));
  const scored = Array.from({ length: 3 }, () => scoring.plan()).flatMap(({ decode }) => decode);
  expect(scored.filter(({ scores, isSingle }) => scores && isSingle)).toEqual([]);
});

test("nobody begins with what the weights for single sequences computed", () => {
  const { scheduler } = setup({
    singleWeights: true,
    prefixCache: true,
    limits: { prefillChunkMax: 16 },
  });
  const begun = (id: number, prompt: number[]) => {
    scheduler.add(sequence(id, { prompt, maxTokens: 12, stopIds: [] }));
    const tokens = [...prompt];
    for (let i = 0; i < 12; i++) {
      for (const { token } of step(scheduler).events) if (token !== undefined) tokens.push(token);
    }
    scheduler.check();
    return tokens;
  };
  const prompt = Array.from({ length: 9 }, (_, index) => index + 1);
  const said = begun(1, prompt);
  expect(said).toHaveLength(21);
  // Two blocks of the prompt are found, and none of the answer.
  scheduler.add(sequence(2, { prompt: [...said, 7] }));
  expect(step(scheduler).plan.prefill.map(({ position }) => position)).toEqual([8]);
  scheduler.check();
});

test("a sequence whose adapter finds no slot does not hold up those behind it", () => {
  const { scheduler } = setup({ slots: 1 });
  scheduler.add(sequence(1, { adapter: "x" }));
  step(scheduler);
  scheduler.add(sequence(2, { adapter: "y" }));
  scheduler.add(sequence(3, { adapter: "x" }));
  scheduler.add(sequence(4));
  const { plan } = step(scheduler);
  expect(ids(plan.prefill)).toEqual([3, 4]);
  expect(scheduler.stats()).toMatchObject({ waiting: 1, waitingForSlot: 1 });
});

test("an adapter is copied into a slot once, and the longest unused one is replaced", () => {
  const { scheduler } = setup();
  const loadsOf = (adapter: string, id: number) => {
    scheduler.add(sequence(id, { adapter, maxTokens: 1 }));
    return step(scheduler).plan.loads;
  };
  expect(loadsOf("x", 1)).toEqual([{ slot: 1, digest: "x" }]);
  expect(loadsOf("y", 2)).toEqual([{ slot: 2, digest: "y" }]);
  expect(loadsOf("x", 3)).toEqual([]);
  expect(loadsOf("z", 4)).toEqual([{ slot: 2, digest: "z" }]);
  expect(scheduler.stats().slots).toEqual(["x", "z"]);
});

test("a cold adapter gets its turn although requests for the loaded one never stop", () => {
  const { scheduler, clock } = setup({ slots: 1, limits: { sequencesMax: 2 } });
  scheduler.add(sequence(0, { adapter: "hot" }));
  step(scheduler);
  scheduler.add(sequence(1000, { adapter: "cold", tenant: "b" }));
  let servedAfter: number | undefined;
  for (let i = 1; i < 50 && servedAfter === undefined; i++) {
    scheduler.add(sequence(i, { adapter: "hot" }));
    clock.ms += 100;
    if (step(scheduler).plan.prefill.some((row) => row.sequenceId === 1000)) servedAfter = i;
    scheduler.check();
    if (scheduler.stats().waiting > 6) scheduler.cancel(i);
  }
  // Ten steps until a slot is promised, then what runs has at most four tokens to go.
  expect(servedAfter).toBeLessThanOrEqual(16);
});

test("a cold adapter waits no longer than the setting, and than what ran in its slot takes", () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 7 });
  const load = fc.record({ lengths, slots: fc.integer({ min: 1, max: 3 }), comesAt: fc.nat(30) });
  fc.assert(
    fc.property(load, fc.integer({ min: 1, max: 500 }), ({ lengths, slots, comesAt }, waitMs) => {
      const limits = { slotWaitMsMax: waitMs, waitingMax: 100 };
      const { scheduler, clock } = setup({ slots, blocks: 200, limits });
      const stepMs = 10;
      let id = 0;
      let missedAtMs: number | undefined;
      for (let i = 0; ; i++) {
        // Each slot has an adapter for which more always wait than there are places.
        while (scheduler.stats().waiting < 8) {
          const maxTokens = lengths[++id % lengths.length]!;
          scheduler.add(sequence(id, { adapter: `hot-${id % slots}`, maxTokens }));
        }
        if (i === comesAt) scheduler.add(sequence(-1, { adapter: "cold", tenant: "b" }));
        const { plan } = step(scheduler);
        if (ids(plan.prefill).includes(-1)) break;
        if (scheduler.stats().waitingByAdapter.cold && scheduler.stats().waitingForSlot > 0)
          missedAtMs ??= clock.ms;
        clock.ms += stepMs;
        // A step to find out that the time is over, and one in which the slot is free.
        const boundMs = waitMs + (Math.max(...lengths) + 2) * stepMs;
        if (missedAtMs !== undefined) expect(clock.ms - missedAtMs).toBeLessThanOrEqual(boundMs);
        expect(i).toBeLessThan(1000);
      }
    }),
    { numRuns: 200 },
  );
});

test("into a slot that is kept for another come only those who end no later than who runs there", () => {
  const { scheduler, clock } = setup({ slots: 1 });
  scheduler.add(sequence(1, { adapter: "hot", maxTokens: 9 }));
  scheduler.add(sequence(2, { adapter: "cold" }));
  step(scheduler);
  clock.ms += 2000;
  step(scheduler);
  // Seven tokens are left to say.
  scheduler.add(sequence(3, { adapter: "hot", maxTokens: 8 }));
  scheduler.add(sequence(4, { adapter: "hot", maxTokens: 7 }));
  scheduler.add(sequence(5, { adapter: "hot", length: 17, maxTokens: 1 }));
  expect(ids(step(scheduler).plan.prefill)).toEqual([4]);
  const steps = Array.from({ length: 20 }, () => ids(step(scheduler).plan.prefill));
  expect(steps.findIndex((prefill) => prefill.includes(2))).toBe(6);
});

test("a slot that was kept for somebody who left is everybody's again", () => {
  const { scheduler, clock } = setup({ slots: 1 });
  scheduler.add(sequence(1, { adapter: "hot" }));
  step(scheduler);
  scheduler.add(sequence(2, { adapter: "cold" }));
  step(scheduler);
  clock.ms += 2000;
  scheduler.add(sequence(3, { adapter: "hot" }));
  expect(step(scheduler).plan.prefill).toEqual([]);
  scheduler.cancel(2);
  expect(ids(step(scheduler).plan.prefill)).toEqual([3]);
});

test("an adapter that cannot be copied into its slot fails its own sequences alone", () => {
  const { scheduler } = setup();
  scheduler.add(sequence(1, { adapter: "x" }));
  scheduler.add(sequence(2));
  const plan = scheduler.plan();
  const error = new Error("bad weights");
  expect(scheduler.loadFailed(plan, 1, error)).toEqual([{ id: 1, error }]);
  expect(ids(plan.prefill)).toEqual([2]);
  expect(scheduler.stats().slots).toEqual([undefined, undefined]);
  scheduler.check();
});

test("a tenant with one request does not wait behind another tenant's many", () => {
  const { scheduler } = setup({ limits: { sequencesMax: 1 } });
  for (let id = 1; id <= 5; id++) scheduler.add(sequence(id, { tenant: "many", maxTokens: 1 }));
  step(scheduler);
  scheduler.add(sequence(6, { tenant: "one", maxTokens: 1 }));
  const order = [1, 2, 3].map(() => ids(step(scheduler).plan.prefill)[0]);
  expect(order.indexOf(6)).toBeLessThanOrEqual(1);
});

test("a tenant that was away does not claim the time it did not use", () => {
  const { scheduler } = setup({ limits: { sequencesMax: 1, waitingMax: 50 } });
  for (let id = 0; id < 20; id++) scheduler.add(sequence(id, { tenant: "steady", maxTokens: 1 }));
  for (let i = 0; i < 10; i++) step(scheduler);
  for (let id = 20; id < 30; id++) scheduler.add(sequence(id, { tenant: "late", maxTokens: 1 }));
  const order = Array.from({ length: 8 }, () => ids(step(scheduler).plan.prefill)[0] ?? -1);
  expect(order.filter((id) => id >= 20)).toHaveLength(4);
});

test("an earlier priority comes first, whosesoever it is, and a later one rises while it gets no turn", () => {
  const { scheduler, clock } = setup({ limits: { sequencesMax: 1, priorityAgeMs: 100 } });
  const turns: number[] = [];
  scheduler.add(sequence(1000, { tenant: "a", priority: 3, maxTokens: 1 }));
  for (let id = 1; id <= 8; id++) {
    scheduler.add(sequence(id, { tenant: id % 2 === 0 ? "a" : "b", maxTokens: 1 }));
    clock.ms += 70;
    turns.push(...ids(step(scheduler).plan.prefill));
  }
  // The others have waited for 70 ms at each turn; three priorities and as long take it until the sixth.
  expect(turns.indexOf(1000)).toBe(5);
});

test("a priority that rose falls back with its turn: many of the last come one at a time", () => {
  const { scheduler, clock } = setup({ limits: { sequencesMax: 1, waitingMax: 100 } });
  for (let id = 0; id < 40; id++) {
    const priority = id < 20 ? 2 : 0;
    scheduler.add(sequence(id, { tenant: `${id}`, priority, maxTokens: 1 }));
  }
  const turns: number[] = [];
  for (let i = 0; i < 20; i++) {
    clock.ms += 50;
    turns.push(...ids(step(scheduler).plan.prefill));
  }
  expect(turns.filter((id) => id < 20)).toHaveLength(4);
});

test("who lacks blocks takes them from the last priority, then from the tenant that was served most", () => {
  const preempted = (...requests: Partial<SequenceRequest>[]) => {
    const { scheduler } = setup({ blocks: 10, limits: { prefillChunkMax: 16, stepTokensMax: 32 } });
    for (const [index, request] of requests.entries()) {
      scheduler.add(sequence(index + 1, { maxTokens: 24, ...request }));
      step(scheduler);
    }
    for (let i = 0; i < 40 && scheduler.stats().preemptions === 0; i++) step(scheduler);
    expect(scheduler.stats()).toMatchObject({ preemptions: 1, running: 1 });
    scheduler.check();
    return ids(scheduler.plan().decode)[0] === 1 ? 2 : 1;
  };
  expect(preempted({}, {})).toBe(2);
  expect(preempted({ priority: 1 }, {})).toBe(1);
  expect(preempted({}, { priority: 1 })).toBe(2);
  expect(preempted({ tenant: "much" }, {}, { tenant: "much", maxTokens: 1 })).toBe(1);
});

test("a full queue turns the last priority away for an earlier one, and no earlier one for a later", () => {
  const { scheduler } = setup({ limits: { waitingMax: 2 } });
  scheduler.add(sequence(1, { priority: 1 }));
  scheduler.add(sequence(2));
  expect(() => scheduler.add(sequence(3, { priority: 2, tenant: "b" }))).toThrow(HubError);
  expect(scheduler.add(sequence(4))).toMatchObject([
    { id: 1, error: { code: "server_is_overloaded" } },
  ]);
  expect(() => scheduler.add(sequence(5, { priority: 1, tenant: "b" }))).toThrow(HubError);
});

test("what is not complete in its time is ended, running or waiting", () => {
  const { scheduler, clock, blocks } = setup({ limits: { sequencesMax: 1 } });
  scheduler.add(sequence(1, { maxTokens: 50, timeoutMs: 100 }));
  scheduler.add(sequence(2, { timeoutMs: 99 }));
  scheduler.add(sequence(3));
  step(scheduler);
  clock.ms = 99;
  expect(scheduler.expire()).toMatchObject([{ id: 2, error: { code: "deadline_exceeded" } }]);
  clock.ms = 100;
  expect(scheduler.expire()).toMatchObject([{ id: 1, error: { code: "deadline_exceeded" } }]);
  expect(blocks.used).toBe(0);
  expect(ids(step(scheduler).plan.prefill)).toEqual([3]);
});

test("a refusal tells when those who wait will have begun, by how fast others ended", () => {
  const { scheduler, clock } = setup({ limits: { sequencesMax: 2, waitingMax: 6 } });
  let id = 0;
  const fill = () => {
    while (scheduler.stats().waiting < 6) scheduler.add(sequence(++id, { maxTokens: 10 }));
  };
  for (let i = 0; i < 100; i++) {
    fill();
    clock.ms += 20;
    step(scheduler);
  }
  fill();
  const refused = catchHubError(() => scheduler.add(sequence(++id)));
  const last = id - 1;
  const askedAtMs = clock.ms;
  while (!ids(step(scheduler).plan.prefill).includes(last)) clock.ms += 20;
  const tookMs = clock.ms - askedAtMs;
  expect(refused.retryAfterMs).toBeGreaterThan(tookMs / 2);
  expect(refused.retryAfterMs).toBeLessThan(tookMs * 2);
});

test.each([
  { why: "for a place", limits: { sequencesMax: 1 }, adapter: undefined },
  { why: "for a slot", limits: {}, adapter: "cold" },
  { why: "for what another computes", limits: { prefillChunkMax: 1 }, adapter: undefined },
])("who waits $why is not looked up in every step", ({ limits, adapter }) => {
  const { scheduler, blocks } = setup({
    slots: 1,
    prefixCache: true,
    limits: { ...limits, waitingMax: 50 },
  });
  scheduler.add(sequence(0, { length: 40, maxTokens: 40, adapter: adapter && "hot" }));
  step(scheduler);
  for (let id = 1; id <= 40; id++) scheduler.add(sequence(id, { length: 40, adapter }));
  step(scheduler);
  let lookups = 0;
  const find = blocks.find.bind(blocks);
  blocks.find = (names) => {
    lookups++;
    return find(names);
  };
  for (let i = 0; i < 10; i++) step(scheduler);
  expect(scheduler.stats().waiting).toBe(40);
  expect(lookups).toBeLessThanOrEqual(10);
});

test("a tenant pays for guesses that did not hold", () => {
  const { scheduler } = setup({ limits: { speculationTokensMax: 8, sequencesMax: 2 } });
  scheduler.add(sequence(1, { tenant: "guessed", prompt: [9, 9, 9, 9], maxTokens: 40 }));
  scheduler.add(sequence(2, { tenant: "plain", maxTokens: 40 }));
  step(scheduler);
  const plan = scheduler.plan();
  expect(plan.decode[0]?.samples).toBeGreaterThan(1);
  commit(scheduler, plan, 5);
  scheduler.add(sequence(3, { tenant: "guessed" }));
  scheduler.add(sequence(4, { tenant: "plain" }));
  scheduler.cancel(1);
  expect(ids(scheduler.plan().prefill)).toEqual([4]);
});

function catchHubError(run: () => void): HubError {
  try {
    run();
  } catch (error) {
    if (error instanceof HubError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

test("where it is not known yet what may be said, nothing is counted of the guesses", () => {
  const { scheduler } = setup({ limits: { speculationTokensMax: 8 } });
  scheduler.add(sequence(1, { prompt: [9, 9, 9, 9], maxTokens: 40 }));
  step(scheduler);
  const { decode } = scheduler.plan();
  expect(decode[0]?.samples).toBeGreaterThan(1);
  scheduler.commit(decode.map((row) => ({ type: "computed", row, chosen: [] })));
  expect(scheduler.stats().speculation).toEqual({ rows: 0, guessed: 0, held: 0 });
});

test("a sequence of no tokens is refused, and does not stand before others for ever", () => {
  const { scheduler } = setup();
  expect(() => scheduler.add(sequence(1, { prompt: [] }))).toThrow();
  scheduler.add(sequence(2));
  expect(ids(scheduler.plan().prefill)).toEqual([2]);
});

test("places that are kept from crowds are open while all choices of a crowd's request wait for theirs", () => {
  const { scheduler, clock } = setup({ limits: { sequencesMax: 8, waitingMax: 20 } });
  // Served more than the crowd is until then, so that the crowd's turn is first.
  scheduler.add(sequence(1, { tenant: "modest", length: 150, maxTokens: 1 }));
  while (!scheduler.isIdle) step(scheduler);
  clock.ms += 1000;
  for (let id = 2; id <= 8; id++) {
    scheduler.add(sequence(id, { tenant: "crowd", maxTokens: 24, stopIds: [] }));
  }
  for (let count = 0; count < 10; count++) step(scheduler);
  expect(scheduler.stats().running).toBe(7);
  for (let id = 11; id <= 14; id++) scheduler.add(sequence(id, { tenant: "crowd", family: 1 }));
  step(scheduler);
  clock.ms += limits.slotWaitMsMax;
  scheduler.add(sequence(20, { tenant: "modest" }));
  expect(ids(step(scheduler).plan.prefill)).toEqual([20]);
});

test("a step has rows of those in places that are kept from crowds, and no more", () => {
  const own = { sequencesMax: 8, waitingMax: 50, stepTokensMax: 100 };
  const { scheduler } = setup({ limits: own, blocks: 200 });
  let most = 0;
  // Each of its own tenant, so that each has less than its share.
  for (let id = 1; id <= 20; id++) {
    scheduler.add(sequence(id, { tenant: `tenant-${id}`, maxTokens: 30, stopIds: [] }));
    const { decode, prefill } = step(scheduler).plan;
    most = Math.max(most, decode.length + prefill.length);
  }
  expect(most).toBeGreaterThan(own.sequencesMax);
  expect(most).toBeLessThanOrEqual(rowsOfStepMax(own));
});
