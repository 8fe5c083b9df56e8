/** What a tenant feels of another one's flood, on a clock that moves by what steps cost. */
import { expect, test } from "vitest";
import { serverLimits } from "../config.ts";
import { BlockManager } from "./block-manager.ts";
import { Scheduler } from "./scheduler.ts";
import { SlotTable } from "./slot-table.ts";
import type { StepPlan } from "./step-plan.ts";

/** SmolLM2-135M as int8 on two cores (`docs/experiments.md`), and what a call takes whose prompts are short. */
function costMs({ decode, prefill }: StepPlan): number {
  const prompts = prefill.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const decodeMs = decode.length > 0 ? 7.8 + 1.2 * decode.length : 0;
  return decodeMs + (prompts > 0 ? 5 + 0.75 * prompts : 0);
}

type Served = { modestMs: number[]; floodTokens: number };

/** Clients that ask again 20 ms after they are answered, for a minute. */
function serve(clients: { modest: number; flood: number }): Served {
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
    Array.from({ length: count }, (_, index) => ({ tenant, atMs: 137 * index })),
  );
  const asked = new Map<number, { tenant: string; atMs: number }>();
  const served: Served = { modestMs: [], floodTokens: 0 };
  let id = 0;
  while (nowMs < 60_000) {
    for (const client of asking.filter(({ atMs }) => atMs <= nowMs)) {
      asking.splice(asking.indexOf(client), 1);
      asked.set(++id, client);
      const prompt = Array.from({ length: 64 }, (_, token) => token);
      const { tenant } = client;
      scheduler.add({ id, prompt, maxTokens: 32, stopIds: [], sampling, tenant });
    }
    const plan = scheduler.plan();
    nowMs += costMs(plan) || 1;
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

test.each([1, 2])(
  "answers of %d clients take little longer beside a flood, first tokens and steps under way included",
  (modest) => {
    const alone = serve({ modest, flood: 0 });
    const beside = serve({ modest, flood: 64 });
    const p95 = (values: number[]) =>
      values.toSorted((a, b) => a - b)[Math.floor(0.95 * values.length)]!;
    // One client alone has a step for itself, and beside others shares each with two rows of theirs.
    expect(p95(beside.modestMs) / p95(alone.modestMs)).toBeLessThan(modest === 1 ? 1.8 : 1.6);
    // What the flood gets is a third of what it gets alone, where steps have 32 rows, and not nothing.
    const undisturbed = serve({ modest: 0, flood: 64 });
    expect(beside.floodTokens / undisturbed.floodTokens).toBeGreaterThan(0.3);
  },
);
