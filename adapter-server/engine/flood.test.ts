/** What a tenant feels of another one's flood, on a clock that moves by what steps cost. */
import { expect, test } from "vitest";
import { serverLimits } from "../config.ts";
import { BlockManager } from "./block-manager.ts";
import { Scheduler } from "./scheduler.ts";
import { SlotTable } from "./slot-table.ts";
import { countTokens, type StepPlan } from "./step-plan.ts";
import type { CallTimes } from "./types.ts";

/** What one call takes for rows that decode, and another for tokens of prompts. */
type Costs = { decodeMs: number; rowMs: number; promptMs: number; tokenMs: number };

/** SmolLM2-135M as int8 on two cores (`docs/experiments.md`), by what their instructions are. */
const machines: Record<string, Costs> = {
  avx2: { decodeMs: 12, rowMs: 3.3, promptMs: 8, tokenMs: 2.6 },
  vnni: { decodeMs: 7.8, rowMs: 1.2, promptMs: 5, tokenMs: 0.75 },
  amx: { decodeMs: 9, rowMs: 0.9, promptMs: 5, tokenMs: 0.35 },
};

function timesOf({ decode, prefill }: StepPlan, costs: Costs): CallTimes {
  const rows = countTokens(decode);
  const tokens = countTokens(prefill);
  return {
    ...(rows > 0 && { decode: { tokens: rows, ms: costs.decodeMs + costs.rowMs * rows } }),
    ...(tokens > 0 && { prefill: { tokens, ms: costs.promptMs + costs.tokenMs * tokens } }),
  };
}

type Served = { modestMs: number[]; floodTokens: number };

/** Clients that ask again 20 ms after they are answered, for a minute. */
function serve(
  clients: { modest: number; flood: number },
  costs: Costs,
  { floodPrompt = 64, modestTokens = 32, floodAtMs = 0, floodEveryMs = 137 } = {},
): Served {
  let nowMs = 0;
  const scheduler = new Scheduler({
    limits: serverLimits.parse({ speculationTokensMax: 0 }),
    blocks: new BlockManager({ blocks: 1025, blockSize: 16 }),
    slots: new SlotTable(0),
    prefixCache: false,
    nowMs: () => nowMs,
  });
  const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 };
  const asking = Object.entries(clients).flatMap(([tenant, count]) =>
    Array.from({ length: count }, (_, index) => ({
      tenant,
      atMs: tenant === "flood" ? floodAtMs + floodEveryMs * index : 137 * index,
    })),
  );
  const asked = new Map<number, { tenant: string; atMs: number }>();
  const served: Served = { modestMs: [], floodTokens: 0 };
  let id = 0;
  while (nowMs < 60_000) {
    for (const client of asking.filter(({ atMs }) => atMs <= nowMs)) {
      asking.splice(asking.indexOf(client), 1);
      asked.set(++id, client);
      const { tenant } = client;
      const isFlood = tenant === "flood";
      const length = isFlood ? floodPrompt : 64;
      const prompt = Array.from({ length }, (_, token) => token);
      const maxTokens = isFlood ? 32 : modestTokens;
      scheduler.add({ id, prompt, maxTokens, stopIds: [], sampling, tenant });
    }
    const plan = scheduler.plan();
    const times = timesOf(plan, costs);
    scheduler.observe(times);
    nowMs += (times.decode?.ms ?? 0) + (times.prefill?.ms ?? 0) || 1;
    const rows = [...plan.decode, ...plan.prefill];
    const events = scheduler.commit(
      rows.map((row) => ({ type: "computed", row, chosen: row.samples > 0 ? [{ token: 1 }] : [] })),
    );
    for (const event of events) {
      const { tenant, atMs } = asked.get(event.id)!;
      if (tenant === "flood") served.floodTokens++;
      if (event.finish === undefined) continue;
      asked.delete(event.id);
      asking.push({ tenant, atMs: nowMs + 20 });
      if (tenant === "modest") served.modestMs.push(nowMs - atMs);
    }
  }
  return served;
}

const p95 = (values: number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(0.95 * values.length)]!;

test.each(
  Object.entries(machines).flatMap(([machine, costs]) => [
    { machine, costs, modest: 1 },
    { machine, costs, modest: 2 },
  ]),
)(
  "answers of $modest clients take at most half as long again beside a flood, with $machine",
  ({ costs, modest }) => {
    const alone = serve({ modest, flood: 0 }, costs);
    const beside = serve({ modest, flood: 64 }, costs);
    expect(p95(beside.modestMs) / p95(alone.modestMs)).toBeLessThan(1.51);
    // What the flood gets is a quarter of the time, of which a step of few rows makes less than one of 32.
    const undisturbed = serve({ modest: 0, flood: 64 }, costs);
    expect(beside.floodTokens / undisturbed.floodTokens).toBeGreaterThan(0.18);
  },
);

test.each([65, 300])(
  "a flood whose prompts have %d tokens gets on beside one long answer",
  (floodPrompt) => {
    const wishes = { floodPrompt, modestTokens: 2000, floodAtMs: 1000, floodEveryMs: 0 };
    const { floodTokens } = serve({ modest: 1, flood: 64 }, machines.vnni!, wishes);
    expect(floodTokens).toBeGreaterThan(300);
  },
);

/** A scheduler that knows how slow its machine is, and takes what it plans for computed. */
function open(costs: Costs) {
  let nowMs = 0;
  const scheduler = new Scheduler({
    limits: serverLimits.parse({ speculationTokensMax: 0 }),
    blocks: new BlockManager({ blocks: 1025, blockSize: 16 }),
    slots: new SlotTable(0),
    prefixCache: false,
    nowMs: () => nowMs,
  });
  const prompt = (length: number) => Array.from({ length }, (_, token) => token);
  const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 };
  return {
    scheduler,
    add: (id: number, tenant: string, tokens: number, maxTokens = 8) =>
      scheduler.add({ id, prompt: prompt(tokens), maxTokens, stopIds: [], sampling, tenant }),
    /** @returns how many tokens of prompts it had of each sequence */
    step(): Map<number, number> {
      const plan = scheduler.plan();
      const times = timesOf(plan, costs);
      scheduler.observe(times);
      nowMs += (times.decode?.ms ?? 0) + (times.prefill?.ms ?? 0);
      const rows = [...plan.decode, ...plan.prefill];
      scheduler.commit(
        rows.map((row) => ({
          ...{ type: "computed", row, chosen: row.samples > 0 ? [{ token: 1 }] : [] },
        })),
      );
      return new Map(plan.prefill.map(({ sequenceId, tokens }) => [sequenceId, tokens.length]));
    },
  };
}

test("a short prompt is not behind a long one that was there before", () => {
  const { add, step } = open(machines.avx2!);
  add(1, "one", 8000);
  for (let i = 0; i < 4; i++) step();
  add(2, "one", 20);
  expect(step()).toEqual(
    new Map([
      [1, expect.any(Number)],
      [2, 20],
    ]),
  );
});

test("who was away while a flood took all places begins at once, although it was given more than the flood", () => {
  const { add, step } = open(machines.vnni!);
  // One small request keeps the flood present, so that what each is given counts.
  add(1, "flood", 16, 8000);
  for (let id = 1000; id < 1400; id++) {
    add(id, "modest", 64);
    for (let i = 0; i < 9; i++) step();
  }
  for (let id = 100; id < 164; id++) add(id, "flood", 64, 500);
  for (let i = 0; i < 60; i++) step();
  add(200, "modest", 64);
  const begun = Array.from({ length: 4 }, () => step().has(200));
  expect(begun).toContain(true);
});

test("who crowds because others ask who cannot begin goes on, whatever it owes", () => {
  const { add, step } = open(machines.avx2!);
  add(1, "one", 15_000);
  for (let i = 0; i < 3; i++) step();
  for (let id = 2; id < 60; id++) {
    // There is no room for it yet.
    add(id, "other", 5000);
    expect(step().get(1)).toBeGreaterThan(0);
  }
});

test("two who ask for about as much get about as much, however many more the one asks for", () => {
  const { modestMs, floodTokens } = serve({ modest: 10, flood: 12 }, machines.vnni!);
  expect(floodTokens / (32 * modestMs.length)).toBeGreaterThan(0.8);
});
