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

/** Prompt, output and patience of one tenant's requests. */
const habits = fc.record({
  prompt: fc.integer({ min: 1, max: promptMax }),
  output: fc.integer({ min: 1, max: outputMax }),
  /** How many it keeps waiting: never so few that a place finds nobody. */
  depth: fc.integer({ min: limits.sequencesMax, max: 20 }),
});

test("of tenants that always wait none gets more tokens than another, but for a bound that never grows", () => {
  fc.assert(
    fc.property(fc.array(habits, { minLength: 2, maxLength: 4 }), (tenants) => {
      const scheduler = new Scheduler({
        limits,
        blocks: new BlockManager({ blocks: 65, blockSize: 4 }),
        slots: new SlotTable(0),
        prefixCache: false,
        nowMs: () => 0,
      });
      const tenantOf = new Map<number, number>();
      const waiting = tenants.map(() => 0);
      const served = tenants.map(() => 0);
      let id = 0;
      for (let step = 0; step < 400; step++) {
        tenants.forEach(({ prompt, output, depth }, tenant) => {
          for (; waiting[tenant]! < depth; waiting[tenant]!++) {
            tenantOf.set(++id, tenant);
            scheduler.add({
              ...{ id, prompt: new Array(prompt).fill(1), maxTokens: output, stopIds: [] },
              sampling: {
                temperature: 0,
                topP: 1,
                topK: 0,
                repetitionPenalty: 1,
                seed: 0,
                stream: 0,
              },
              tenant: `${tenant}`,
            });
          }
        });
        const { decode, prefill } = scheduler.plan();
        for (const row of prefill)
          if (row.position === 0) waiting[tenantOf.get(row.sequenceId)!]!--;
        // Tokens of prompts as they are computed, tokens of answers as they are said.
        for (const row of prefill) {
          served[tenantOf.get(row.sequenceId)!]! += row.tokens.length + row.samples;
        }
        for (const row of decode) served[tenantOf.get(row.sequenceId)!]! += row.samples;
        scheduler.commit(
          [...decode, ...prefill].map((row) => ({
            ...{ type: "computed", row, chosen: row.samples > 0 ? [{ token: 2 }] : [] },
          })),
        );
        // What the others may be given while one sequence of the least served is awaited: what all places hold.
        // A quarter of the places is kept beside the others, for who is ahead by no more than the slack.
        const bound = slackTokens + 1.25 * limits.sequencesMax * (promptMax + outputMax);
        expect(Math.max(...served) - Math.min(...served)).toBeLessThanOrEqual(bound);
      }
    }),
    { numRuns: 40 },
  );
});
