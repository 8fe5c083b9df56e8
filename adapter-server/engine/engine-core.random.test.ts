/** The whole engine but for the model: any run of arrivals, cancels, loads and failures stays accounted for. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { limits, request, setup, stopIds } from "./__fixtures__/core-harness.ts";
import type { SequenceRequest } from "./sequence.ts";
import { simulatedAdapter, simulatedContinuation } from "./simulated-runner.ts";
import type { StepRow } from "./types.ts";

type Action =
  | {
      type: "add";
      length: number;
      /** How much of the prompt others begin with as well, and which of them. */
      shared: number;
      family: number;
      maxTokens: number;
      adapter: number;
      tenant: number;
      fails: boolean;
      stops: boolean;
      priority: number;
      choices: number;
      timeoutMs: number | undefined;
    }
  | { type: "cancel"; which: number }
  | { type: "forget"; adapter: number }
  | { type: "turn" };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("add" as const),
      length: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 15, max: 30 })),
      shared: fc.constantFrom(0, 7, 30),
      family: fc.constantFrom(1, 1, 2),
      maxTokens: fc.integer({ min: 1, max: 20 }),
      // Some often, so that many have their beginning in common with others.
      adapter: fc.constantFrom(-1, -1, -1, 0, 0, 1, 2, 3),
      tenant: fc.constantFrom(0, 0, 0, 1, 2),
      fails: fc.integer({ min: 0, max: 9 }).map((roll) => roll === 0),
      stops: fc.boolean(),
      choices: fc.constantFrom(1, 1, 1, 2, 4),
      priority: fc.constantFrom(0, 0, 0, -1, 1, 5),
      timeoutMs: fc.constantFrom(undefined, undefined, undefined, undefined, 30, 200),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("cancel" as const), which: fc.nat(60) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("forget" as const), adapter: fc.nat(3) }),
  },
  { weight: 5, arbitrary: fc.constant({ type: "turn" as const }) },
);

test("after any run of arrivals, choices, deadlines, cancels, unloads and failures, all is accounted for and nobody waits for ever", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(action, { maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 14, max: 40 }),
      // So few tokens that the same comes again, and guesses at it hold now and then.
      fc.constantFrom(
        { words: 3, guessed: 12 },
        { words: 3, guessed: 7 },
        { words: 50, guessed: 0 },
      ),
      fc.boolean(),
      fc.constantFrom(100, 100, 4),
      fc.boolean(),
      async (
        actions,
        slots,
        blocks,
        { words, guessed },
        prefixCache,
        waitingMax,
        hasSingleWeights,
      ) => {
        const failing = new Set<number>();
        const harness = setup(
          {
            ...{ slots, blocks, vocabSize: words, hasSingleWeights },
            fails: (row) => failing.has(row.sequenceId),
          },
          { speculationTokensMax: guessed, waitingMax },
          { prefixCache },
        );
        const { runner, outputs, drain, tokensOf } = harness;
        const requests = new Map<number, SequenceRequest>();
        // Told at the end: what the runner throws would only fail its rows.
        let largestStep = 0;
        const strangers: string[] = [];
        const book = new BlockBook(runner.blockSize);
        const run = runner.run.bind(runner);
        runner.run = async (decode, prefill) => {
          const rows = [...decode, ...prefill];
          const tokens = rows.reduce((sum, row) => sum + row.tokens.length, 0);
          largestStep = Math.max(largestStep, tokens);
          for (const row of rows) strangers.push(...book.enter(row, requests.get(row.sequenceId)));
          return run(decode, prefill);
        };
        const copyBlock = runner.copyBlock.bind(runner);
        runner.copyBlock = (from, to) => {
          book.copy(from, to);
          copyBlock(from, to);
        };
        const loadSlot = runner.loadSlot.bind(runner);
        runner.loadSlot = (slot, adapter) => {
          if (adapter.digest === badAdapter) throw new Error("these weights do not arrive");
          loadSlot(slot, adapter);
        };
        const { cancelled } = await play(actions, harness, { words, requests, failing });
        await drain();
        expect(harness.stats().blocksUsed).toBe(0);
        expect(largestStep).toBeLessThanOrEqual(limits.stepTokensMax);
        expect(strangers).toEqual([]);
        for (const one of requests.values()) {
          const said = outputs.get(one.id) ?? [];
          const expected = simulatedContinuation({ ...one, vocabSize: words });
          const tooLong = one.prompt.length + one.maxTokens > (blocks - 1) * runner.blockSize;
          const ends = said.filter((output) => output.finish ?? output.error);
          const code = ends[0]?.error?.code;
          const late = code === "deadline_exceeded";
          if (one.timeoutMs === undefined) expect(late).toBe(false);
          if (cancelled.has(one.id)) expect(ends.length).toBeLessThanOrEqual(1);
          else expect(ends).toEqual([said.at(-1)]);
          if (cancelled.has(one.id) || late) {
            expect(expected.slice(0, tokensOf(one.id).length)).toEqual(tokensOf(one.id));
          } else if (tooLong) {
            expect(said).toMatchObject([{ error: { code: "context_length_exceeded" } }]);
          } else if (waitingMax < 100 && turnedAway.has(code ?? "")) {
            expect(said).toHaveLength(1);
          } else if (one.adapter === badAdapter) {
            expect(said).toMatchObject([{ error: { code: "internal_error" } }]);
          } else if (failing.has(one.id)) {
            // The first token of one that forks is chosen from another's row.
            const tokens = tokensOf(one.id);
            expect(tokens).toEqual(
              expected.slice(0, one.family === undefined ? 0 : 1).slice(0, tokens.length),
            );
            if (tokens.length < expected.length) expect(code).toBe("internal_error");
          } else {
            expect(tokensOf(one.id)).toEqual(expected);
          }
        }
      },
    ),
    { numRuns: 150 },
  );
}, 60_000);

test("the same run again says the same to everybody, in the same steps", async () => {
  const once = async (actions: readonly Action[]) => {
    const harness = setup({ slots: 2, blocks: 20 });
    await play(actions, harness, { words: 50, requests: new Map(), failing: new Set() });
    await harness.drain();
    return { outputs: [...harness.outputs], rows: harness.runner.rowsRun, stats: harness.stats() };
  };
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
      expect(await once(actions)).toEqual(await once(actions));
    }),
    { numRuns: 30 },
  );
});

/** @returns whose clients left */
async function play(
  actions: readonly Action[],
  { core, turn }: Pick<ReturnType<typeof setup>, "core" | "turn">,
  run: { words: number; requests: Map<number, SequenceRequest>; failing: Set<number> },
): Promise<{ cancelled: Set<number> }> {
  const { words, requests, failing } = run;
  const cancelled = new Set<number>();
  for (const one of actions) {
    if (one.type === "add") {
      const id = requests.size + 1;
      const adapter = one.adapter < 0 ? undefined : `adapter-${one.adapter}`;
      const prompt = Array.from(
        { length: one.length },
        (_, i) => ((i < one.shared ? one.family : id) + i * 4) % words,
      );
      const { maxTokens, priority, timeoutMs } = one;
      const rest = { priority, timeoutMs, stopIds: one.stops ? stopIds : [] };
      if (adapter) core.receive({ type: "adapter", adapter: simulatedAdapter(adapter) });
      const family = one.choices > 1 ? id : undefined;
      for (let choice = id; choice < id + one.choices; choice++) {
        const asked = { prompt, maxTokens, adapter, tenant: `t${one.tenant}`, family, ...rest };
        requests.set(choice, request(choice, asked));
        core.receive({ type: "add", request: request(choice, asked) });
      }
      if (one.fails) failing.add(requests.size);
    } else if (one.type === "cancel") {
      if (requests.has(one.which)) cancelled.add(one.which);
      core.receive({ type: "cancel", id: one.which });
    } else if (one.type === "forget") {
      core.receive({ type: "forget", digest: `adapter-${one.adapter}` });
    } else {
      await turn();
    }
  }
  return { cancelled };
}

/** An adapter that cannot be copied into any slot. */
const badAdapter = "adapter-3";

/** What was computed into each place of the pool, for whom and by which weights. */
class BlockBook {
  readonly #blockSize: number;
  readonly #places = new Map<number, string>();
  readonly #told = new Map<number, string[]>();

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  copy(from: number, to: number): void {
    for (let i = 0; i < this.#blockSize; i++) {
      const entry = this.#places.get(from * this.#blockSize + i);
      if (entry !== undefined) this.#places.set(to * this.#blockSize + i, entry);
    }
  }

  /**
   * Enters what the row writes.
   * @returns the places that the row attends to although something else was computed there
   */
  enter(row: StepRow, request: SequenceRequest | undefined): string[] {
    const entry = (token: number | undefined, isSingle = false) =>
      `${token} of ${request?.tenant} with ${request?.adapter}${isSingle ? byItself : ""}`;
    const placeOf = (position: number) =>
      row.blocks[Math.floor(position / this.#blockSize)]! * this.#blockSize +
      (position % this.#blockSize);
    const told =
      this.#told.get(row.sequenceId) ?? (request?.prompt ?? []).map((token) => entry(token));
    row.tokens.forEach((token, index) => {
      told[row.position + index] = entry(token, row.isSingle);
      this.#places.set(placeOf(row.position + index), entry(token, row.isSingle));
    });
    this.#told.set(row.sequenceId, told);
    return told.slice(0, row.position).flatMap((expected, position) => {
      const found = this.#places.get(placeOf(position));
      // What it lost may be found again as others computed it, which is with the usual weights.
      const isRight = found === expected || found === expected.replace(byItself, "");
      return isRight ? [] : [`${row.sequenceId} at ${position}: ${found}`];
    });
  }
}

/** Marks what was computed with the weights for single sequences. */
const byItself = ", by itself";

const turnedAway: ReadonlySet<string> = new Set(["server_is_overloaded", "rate_limit_exceeded"]);
