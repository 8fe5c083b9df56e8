/** A model runner without a model, for tests: it keeps a real KV pool and checks all that it is given. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { nullBlock } from "./block-manager.ts";
import type { ModelDims, ModelRunner, PackedAdapter, StepRow } from "./types.ts";

export type SimulatedOptions = {
  vocabSize?: number;
  contextLength?: number;
  blocks?: number;
  /** How much likelier the token is that a greedy choice takes than any other, as a logit; 5 when absent. */
  spread?: number;
  blockSize?: number;
  slots?: number;
  /** Whether it says that it has other weights for single sequences; it computes the same with them. */
  hasSingleWeights?: boolean;
  /** A run with such a row throws. */
  fails?: (row: StepRow) => boolean;
  /** A row with this token makes the run throw. */
  failingToken?: number;
  /** A row with this token ends the thread. */
  deadlyToken?: number;
  /** Starts that fail, counted down in shared memory. */
  failingStarts?: Int32Array;
  /** Real milliseconds that a run takes. */
  stepMs?: number;
};

/** The factory that a worker imports. */
export async function createRunner(options: SimulatedOptions): Promise<ModelRunner> {
  const { failingStarts } = options;
  if (failingStarts && Atomics.sub(failingStarts, 0, 1) > 0) throw new Error("no memory");
  return new SimulatedRunner(options);
}

/**
 * The next token is a hash of all tokens that the row's blocks hold and of the digest in the row's
 * slot. So a wrong block, a stale slot or a skipped position changes what is generated.
 */
export class SimulatedRunner implements ModelRunner {
  readonly dims: ModelDims;
  readonly blockSize: number;
  readonly blocks: number;
  readonly slots: number;
  readonly rankMax = 64;
  readonly hasSingleWeights: boolean;
  readonly rowsRun: StepRow[] = [];
  /** Absent unless a test has something to hear or to fail there. */
  expectAdapter?: (adapter: PackedAdapter) => Promise<void> | undefined;
  /** By slot: digest of the adapter that was copied in last. */
  readonly loaded: (string | undefined)[];
  readonly #pool: Int32Array;
  /** By place in the pool: the adapter that computed what is there. */
  readonly #weights: (string | undefined)[];
  readonly #options: SimulatedOptions;

  constructor(options: SimulatedOptions = {}) {
    this.#options = options;
    this.blockSize = options.blockSize ?? 4;
    this.blocks = options.blocks ?? 64;
    this.slots = options.slots ?? 2;
    this.hasSingleWeights = options.hasSingleWeights ?? false;
    this.loaded = new Array<string | undefined>(this.slots + 1).fill(undefined);
    this.#pool = new Int32Array(this.blocks * this.blockSize).fill(-1);
    this.#weights = new Array<string | undefined>(this.#pool.length).fill(undefined);
    this.dims = {
      layers: 1,
      hiddenSize: 1,
      intermediateSize: 1,
      heads: 1,
      keyValueHeads: 1,
      headDim: 1,
      vocabSize: options.vocabSize ?? 50,
      contextLength: options.contextLength ?? 64,
      windows: [Number.POSITIVE_INFINITY],
      fusedModules: false,
    };
  }

  async run(decode: readonly StepRow[], prefill: readonly StepRow[]): Promise<Float32Array[]> {
    const { stepMs } = this.#options;
    if (stepMs !== undefined) await new Promise((resolve) => setTimeout(resolve, stepMs));
    for (const row of decode) {
      invariant(row.tokens.length === row.samples, "a decode row is sampled at each of its tokens");
    }
    const rows = [...decode, ...prefill];
    for (const row of rows) invariant(row.tokens.length > 0, "a row has a token to compute");
    const written = new Set<number>();
    for (const row of rows) this.#write(row, written);
    for (const row of rows) {
      if (row.tokens.includes(this.#options.deadlyToken ?? -1)) process.exit(1);
      const fails = row.tokens.includes(this.#options.failingToken ?? -1);
      if (fails || this.#options.fails?.(row))
        throw new Error(`sequence ${row.sequenceId} breaks the run`);
    }
    this.rowsRun.push(...rows);
    return rows.flatMap((row) =>
      Array.from({ length: row.samples }, (_, index) =>
        this.#logits(row, row.tokens.length - row.samples + index + 1),
      ),
    );
  }

  /** One value for each token: the one that would be said after it. */
  statesOf({ states = 0, ...row }: StepRow): Float32Array {
    return Float32Array.from({ length: states }, (_, index) => {
      const logits = this.#logits({ states, ...row }, row.tokens.length - states + index + 1);
      return logits.indexOf(5);
    });
  }

  copyBlock(from: number, to: number): void {
    const [source, target] = [from * this.blockSize, to * this.blockSize];
    this.#pool.copyWithin(target, source, source + this.blockSize);
    this.#weights.copyWithin(target, source, source + this.blockSize);
  }

  loadSlot(slot: number, adapter: PackedAdapter): void {
    invariant(slot >= 1 && slot <= this.slots, `slot ${slot} exists`);
    this.loaded[slot] = adapter.digest;
  }

  clearSlot(slot: number): void {
    invariant(slot >= 1 && slot <= this.slots, `slot ${slot} exists`);
    this.loaded[slot] = undefined;
  }

  async close(): Promise<void> {}

  #write(row: StepRow, written: Set<number>): void {
    for (const [index, token] of row.tokens.entries()) {
      const cell = this.#cell(row, row.position + index);
      invariant(!written.has(cell), "no two rows write to one place");
      written.add(cell);
      this.#pool[cell] = token;
      this.#weights[cell] = this.loaded[row.slot];
    }
  }

  #cell(row: StepRow, position: number): number {
    const block = row.blocks[Math.floor(position / this.blockSize)];
    invariant(block !== undefined && block !== nullBlock, `a block covers position ${position}`);
    return block * this.blockSize + (position % this.blockSize);
  }

  /** @param computed tokens of the row up to the one whose successor is asked for */
  #logits(row: StepRow, computed: number): Float32Array {
    const adapter = row.slot === 0 ? undefined : this.loaded[row.slot];
    invariant(row.slot === 0 || adapter !== undefined, `slot ${row.slot} holds an adapter`);
    const seen = Array.from({ length: row.position + computed }, (_, position) => {
      const cell = this.#cell(row, position);
      invariant(this.#weights[cell] === adapter, "what a row attends to has its own weights");
      return this.#pool[cell]!;
    });
    const logits = new Float32Array(this.dims.vocabSize);
    logits[simulatedToken(seen, adapter, this.dims.vocabSize)] = this.#options.spread ?? 5;
    return logits;
  }
}

/** The token that the simulated model says after these, with this adapter: the definition. */
export function simulatedToken(
  tokens: readonly number[],
  adapter: string | undefined,
  vocabSize: number,
): number {
  let hash = 2166136261;
  const mix = (value: number) => {
    hash = Math.imul(hash ^ value, 16777619);
  };
  for (const token of tokens) mix(token + 1);
  for (const character of adapter ?? "") mix(character.charCodeAt(0));
  return (hash >>> 0) % vocabSize;
}

/** The continuation that one sequence alone must have, whatever it is batched with. */
export function simulatedContinuation(request: {
  prompt: readonly number[];
  adapter?: string | undefined;
  maxTokens: number;
  stopIds: readonly number[];
  vocabSize: number;
}): number[] {
  const tokens = [...request.prompt];
  const output: number[] = [];
  while (output.length < request.maxTokens) {
    const token = simulatedToken(tokens, request.adapter, request.vocabSize);
    tokens.push(token);
    output.push(token);
    if (request.stopIds.includes(token)) break;
  }
  return output;
}

/** An adapter without weights. */
export function simulatedAdapter(digest: string): PackedAdapter {
  return { digest, rank: 1, layers: [] };
}
