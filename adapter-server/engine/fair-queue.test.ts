/** How evenly tenants are served while they all have more to ask for than the engine can do. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockManager } from "./block-manager.ts";
import { Scheduler } from "./scheduler.ts";
import { slackTokens } from "./shares.ts";
import { SlotTable } from "./slot-table.ts";

const limits = {
  stepTokensMax: 24,
  prefillChunkMax: 12,
  speculationTokensMax: 0,
  sequencesMax: 4,
  waitingMax: 1000,
  waitMsMax: 1e9,
  slotWaitMsMax: 1000,
  priorityAgeMs: 1000,
};
const promptMax = 40;
const outputMax = 30;
/** Places of a step, those that are kept beside them included, and one that waits on. */
const depthMin = Math.floor(1.25 * limits.sequencesMax) + 1;

/** Prompt, output and patience of one tenant's requests. */
type Habits = {
  prompt: number;
  output: number;
  /** How many it keeps waiting: never so few that the places of a step find nobody. */
  depth: number;
};
const habits: fc.Arbitrary<Habits> = fc.record({
  prompt: fc.integer({ min: 1, max: promptMax }),
  output: fc.integer({ min: 1, max: outputMax }),
  depth: fc.integer({ min: depthMin, max: 20 }),
});

/**
 * Serves tenants that always wait.
 * @returns by step, how many tokens the tenant that got most is ahead of the one that got fewest
 */
function* leads(tenants: readonly Habits[], steps: number): Generator<number, void, void> {
  const scheduler = new Scheduler({
    limits,
    blocks: new BlockManager({ blocks: 65, blockSize: 4 }),
    slots: new SlotTable(0),
    prefixCache: false,
    nowMs: () => 0,
  });
  const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 };
  /** Those that run or wait: whose they are, and how much of their prompts was computed. */
  const open = new Map<number, { tenant: number; computed: number }>();
  const waiting = tenants.map(() => 0);
  const served = tenants.map(() => 0);
  let id = 0;
  for (let step = 0; step < steps; step++) {
    for (const [tenant, { prompt, output, depth }] of tenants.entries()) {
      for (; waiting[tenant]! < depth; waiting[tenant]!++) {
        open.set(++id, { tenant, computed: 0 });
        scheduler.add({
          ...{ id, prompt: new Array(prompt).fill(1), maxTokens: output, stopIds: [], sampling },
          tenant: `${tenant}`,
        });
      }
    }
    const { decode, prefill } = scheduler.plan();
    const rows = [...decode, ...prefill];
    for (const { sequenceId, position, tokens, samples } of rows) {
      const sequence = open.get(sequenceId)!;
      const { tenant, computed } = sequence;
      if (computed === 0) waiting[tenant]!--;
      // Tokens of prompts as they are computed for the first time, tokens of answers as they are said. A prompt's last
      // token, where it is left alone, is computed in a row that decodes.
      const until = Math.min(position + tokens.length, tenants[tenant]!.prompt);
      sequence.computed = Math.max(computed, until);
      served[tenant]! += sequence.computed - computed + samples;
    }
    const events = scheduler.commit(
      rows.map((row) => ({ type: "computed", row, chosen: row.samples > 0 ? [{ token: 2 }] : [] })),
    );
    for (const { id: ended, finish } of events) if (finish !== undefined) open.delete(ended);
    yield Math.max(...served) - Math.min(...served);
  }
}

/**
 * What the others may be given while one sequence of the least served is awaited: what all places hold. A quarter of
 * the places is kept beside the others, for who is ahead by no more than the slack.
 */
const bound = slackTokens + 1.25 * limits.sequencesMax * (promptMax + outputMax);

test("of tenants that always wait none gets more tokens than another, but for a bound that never grows", () => {
  fc.assert(
    fc.property(fc.array(habits, { minLength: 2, maxLength: 4 }), (tenants) => {
      for (const lead of leads(tenants, 400)) expect(lead).toBeLessThanOrEqual(bound);
    }),
    { numRuns: 40 },
  );
});

test.each([
  [
    { prompt: 1, output: 1 },
    { prompt: 13, output: 1 },
  ],
  [
    { prompt: 1, output: 30 },
    { prompt: 13, output: 1 },
  ],
  [
    { prompt: 40, output: 30 },
    { prompt: 1, output: 1 },
  ],
])("nor after tens of thousands of steps: %j beside %j", (a, b) => {
  const tenants = [a, b].map((habit) => ({ ...habit, depth: depthMin }));
  let most = 0;
  for (const lead of leads(tenants, 40_000)) most = Math.max(most, lead);
  expect(most).toBeLessThanOrEqual(bound);
});
