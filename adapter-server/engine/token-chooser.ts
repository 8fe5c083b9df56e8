/** Chooses the tokens of a step: changes, draw and log-probabilities of each row, as its sequence asks for them. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { applyChanges, type LogitChanges, logitChanges, wishesAnything } from "./logit-changes.ts";
import { logprobsOf } from "./logprobs.ts";
import { isGreedy, Sampler } from "./sampler.ts";
import type { Chosen, SequenceRequest } from "./sequence.ts";
import type { SampledLogits } from "./step.ts";
import { TokenCounts } from "./token-counts.ts";
import {
  argmax,
  emptyWeights,
  type TokenWeights,
  type WeighedRow,
  weigh,
} from "./token-weights.ts";
import type { ModelRunner } from "./types.ts";

/** One object for a sequence's whole life. */
type Asking = Readonly<
  Pick<SequenceRequest, "prompt" | "sampling" | "logprobs" | "stopIds"> & {
    tokens: readonly number[];
  }
>;

/** What is found out of a row's logits before its token is chosen. */
type Prepared = {
  changes: LogitChanges | undefined;
  /** Or why no token can be chosen. */
  error?: unknown;
  /** Weights for the draw, of the changed logits at the sequence's temperature. */
  draw?: TokenWeights;
  /** Weights for log-probabilities, of the model's own logits. */
  likelihoods?: TokenWeights;
};

export class TokenChooser {
  readonly #runner: Pick<ModelRunner, "weigh" | "peaksOf">;
  readonly #sequenceOf: (id: number) => Asking | undefined;
  readonly #sampler: Sampler;
  readonly #own: TokenWeights;
  readonly #changed: Float32Array;
  readonly #counts = new WeakMap<Asking, TokenCounts>();
  /** By logits of the step under way. */
  #prepared = new Map<Float32Array, Prepared>();

  constructor(runner: ModelRunner, sequenceOf: (id: number) => Asking | undefined) {
    const { vocabSize } = runner.dims;
    this.#runner = runner;
    this.#sequenceOf = sequenceOf;
    this.#sampler = new Sampler(vocabSize);
    this.#own = emptyWeights(vocabSize);
    this.#changed = new Float32Array(vocabSize);
  }

  /** Finds out what each row changes, and weighs all tokens that the step's choices need weighed in one call. */
  async prepare(results: readonly SampledLogits[]): Promise<void> {
    this.#prepared = new Map();
    const rows: WeighedRow[] = [];
    const keep: ((weights: TokenWeights) => void)[] = [];
    for (const { sequenceId, logits, said } of results) {
      const sequence = this.#sequenceOf(sequenceId);
      if (!sequence) continue;
      const prepared = this.#changesOf(sequence, logits, said);
      this.#prepared.set(logits, prepared);
      const { changes } = prepared;
      const { temperature } = sequence.sampling;
      const draws = !isGreedy(sequence.sampling) && prepared.error === undefined;
      const tells = sequence.logprobs !== undefined;
      const shares = draws && tells && temperature === 1 && !changes;
      if (draws) {
        rows.push({ logits, changes, temperature });
        keep.push((weights) => {
          prepared.draw = weights;
          if (shares) prepared.likelihoods = weights;
        });
      }
      if (tells && !shares) {
        rows.push({ logits, temperature: 1 });
        keep.push((weights) => {
          prepared.likelihoods = weights;
        });
      }
    }
    if (!this.#runner.weigh || rows.length === 0) return;
    const weighed = await this.#runner.weigh(rows);
    for (const [index, weights] of weighed.entries()) keep[index]!(weights);
  }

  /**
   * @param logits `[vocabSize]`, of those that were prepared
   * @param said   tokens that this step has chosen for the sequence before
   * @throws Error when the logits allow no choice
   */
  choose(sequenceId: number, logits: Float32Array, said: readonly number[]): Chosen {
    const sequence = this.#sequenceOf(sequenceId);
    const prepared = this.#prepared.get(logits);
    invariant(sequence && prepared, "a planned row belongs to a sequence and was prepared");
    if (prepared.error !== undefined) throw prepared.error;
    const { sampling, tokens, logprobs: count } = sequence;
    const { changes, draw } = prepared;
    const changed = changes && !draw ? this.#apply(logits, changes) : logits;
    const token = this.#sampler.sample(changed, sampling, tokens.length + said.length, {
      weights: draw,
      // What the runner knows of the logits it does not know of changed ones.
      peaks: changes ? undefined : this.#runner.peaksOf?.(logits),
    });
    if (count === undefined) return { token };
    const likelihoods = prepared.likelihoods ?? this.#weigh(logits);
    return { token, logprobs: logprobsOf(logits, likelihoods, { token, count }) };
  }

  /** A row whose logits leave no token fails by itself, when its turn comes. */
  #changesOf(sequence: Asking, logits: Float32Array, said: readonly number[]): Prepared {
    const { sampling, tokens, prompt, stopIds } = sequence;
    if (!wishesAnything(sampling)) return { changes: undefined };
    const counts = this.#countsOf(sequence);
    const all = { counts, output: [...tokens.slice(prompt.length), ...said], stopIds };
    try {
      return { changes: counts.supposing(said, () => logitChanges(logits, sampling, all)) };
    } catch (error) {
      return { changes: undefined, error };
    }
  }

  #countsOf(sequence: Asking): TokenCounts {
    const counts = this.#counts.get(sequence) ?? new TokenCounts();
    this.#counts.set(sequence, counts);
    counts.take(sequence.tokens, sequence.prompt.length);
    return counts;
  }

  #apply(logits: Float32Array, changes: LogitChanges): Float32Array {
    this.#changed.set(logits);
    applyChanges(this.#changed, changes);
    return this.#changed;
  }

  #weigh(logits: Float32Array): TokenWeights {
    weigh(this.#own, logits, { max: logits[argmax(logits)]!, temperature: 1 });
    return this.#own;
  }
}
