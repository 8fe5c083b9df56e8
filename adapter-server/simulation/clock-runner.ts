/** A model runner that computes nothing and lets time pass: what a step would take. */
import { countTokens } from "../engine/step-plan.ts";
import type { CallTimes, ModelDims, ModelRunner, StepRow } from "../engine/types.ts";
import type { SimulationOptions } from "./options.ts";

export type Clock = { ms: number };

/** Tokens of a block, as the real pool has them. */
const blockSize = 16;

export class ClockRunner implements ModelRunner {
  readonly dims: ModelDims = {
    ...{ layers: 1, hiddenSize: 1, intermediateSize: 1, heads: 1, keyValueHeads: 1, headDim: 1 },
    ...{ vocabSize: 2, contextLength: Number.MAX_SAFE_INTEGER, fusedModules: false },
    windows: [Number.POSITIVE_INFINITY],
  };
  readonly blockSize = blockSize;
  readonly blocks: number;
  readonly slots: number;
  readonly rankMax = 1;
  lastCalls: CallTimes = {};
  /** Of all steps so far. */
  readonly totals = { steps: 0, rows: 0, tokens: 0, loads: 0, busyMs: 0 };
  readonly #clock: Clock;
  readonly #cost: SimulationOptions["cost"];
  readonly #onRow: (row: StepRow) => void;
  readonly #logits = new Float32Array(2);

  /** @param onRow hears of each row before its time passes */
  constructor(clock: Clock, options: SimulationOptions, onRow: (row: StepRow) => void) {
    this.#clock = clock;
    this.#cost = options.cost;
    this.#onRow = onRow;
    // One block of a pool belongs to nobody.
    this.blocks = Math.ceil(options.engine.kvCacheTokens / blockSize) + 1;
    this.slots = options.engine.slots;
  }

  async run(decode: readonly StepRow[], prefill: readonly StepRow[]): Promise<Float32Array[]> {
    const { step, row, promptToken, adapter } = this.#cost;
    const rows = [...decode, ...prefill];
    for (const one of rows) this.#onRow(one);
    const promptTokens = countTokens(prefill);
    this.lastCalls = {
      ...(decode.length > 0 && {
        decode: { tokens: decode.length, ms: step + row * decode.length },
      }),
      ...(promptTokens > 0 && {
        prefill: { tokens: promptTokens, ms: promptToken * promptTokens },
      }),
    };
    const adapters = new Set(rows.map(({ slot }) => slot).filter((slot) => slot !== 0)).size;
    this.#pass(step + row * decode.length + promptToken * promptTokens + adapter * adapters);
    this.totals.steps++;
    this.totals.rows += rows.length;
    this.totals.tokens += decode.length + promptTokens;
    const samples = rows.reduce((sum, one) => sum + one.samples, 0);
    return new Array<Float32Array>(samples).fill(this.#logits);
  }

  loadSlot(): void {
    this.totals.loads++;
    this.#pass(this.#cost.load);
  }

  copyBlock(): void {}

  clearSlot(): void {}

  async close(): Promise<void> {}

  #pass(ms: number): void {
    this.#clock.ms += ms;
    this.totals.busyMs += ms;
  }
}
