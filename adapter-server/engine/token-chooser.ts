/** Chooses the tokens of a step: changes, draw and log-probabilities of each row, as its sequence asks for them. */
import { invariant } from "../../sdk/protocol/errors.ts";
import type { GrammarMasks } from "./grammar-masks.ts";
import { applyChanges, type LogitChanges, logitChanges, wishesAnything } from "./logit-changes.ts";
import { logprobsOf, type PromptLogprobs, rankOf } from "./logprobs.ts";
import { applyMask, type Restriction, withMask } from "./masked-logits.ts";
import { isGreedy, Sampler } from "./sampler.ts";
import type { Chosen, SequenceRequest } from "./sequence.ts";
import type { SampledLogits, ScoredLogits } from "./step.ts";
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
  Pick<SequenceRequest, "prompt" | "sampling" | "logprobs" | "promptLogprobs" | "stopIds"> & {
    tokens: readonly number[];
  }
>;

type Masks = Pick<GrammarMasks, "ready" | "has" | "maskOf" | "supposedMaskOf">;

/** What is found out of a row's logits before its token is chosen. */
type Prepared = Restriction & {
  /** Or why no token can be chosen. */
  error?: unknown;
  /** Or that it is not known yet which ones may be. */
  isLate?: boolean;
  /** Weights for the draw, of the changed logits at the sequence's temperature. */
  draw?: TokenWeights;
  /** Weights for log-probabilities, of the model's own logits. */
  likelihoods?: TokenWeights;
};

export class TokenChooser {
  readonly #runner: Pick<ModelRunner, "weigh" | "peaksOf">;
  readonly #sequenceOf: (id: number) => Asking | undefined;
  readonly #masks: Masks | undefined;
  readonly #sampler: Sampler;
  readonly #own: TokenWeights;
  readonly #changed: Float32Array;
  readonly #counts = new WeakMap<Asking, TokenCounts>();
  /** By logits of the step under way. */
  #prepared = new Map<Float32Array, Prepared>();

  /** @param masks of the sequences that follow a grammar */
  constructor(
    runner: ModelRunner,
    sequenceOf: (id: number) => Asking | undefined,
    masks?: Masks | undefined,
  ) {
    const { vocabSize } = runner.dims;
    this.#runner = runner;
    this.#sequenceOf = sequenceOf;
    this.#masks = masks;
    this.#sampler = new Sampler(vocabSize);
    this.#own = emptyWeights(vocabSize);
    this.#changed = new Float32Array(vocabSize);
  }

  /** Finds out what each row changes, and weighs all tokens that the step's choices need weighed in one call. */
  async prepare(
    choices: readonly SampledLogits[],
    scored: readonly ScoredLogits[] = [],
  ): Promise<void> {
    this.#prepared = new Map();
    const late = await this.#masks?.ready(new Set(choices.map(({ sequenceId }) => sequenceId)));
    const rows: WeighedRow[] = [];
    const keep: ((weights: TokenWeights) => void)[] = [];
    for (const { sequenceId, logits, said } of choices) {
      const sequence = this.#sequenceOf(sequenceId);
      if (!sequence) continue;
      const prepared = late?.has(sequenceId)
        ? { ...unrestricted, isLate: true }
        : this.#restrictionOf(sequenceId, { sequence, logits, said });
      this.#prepared.set(logits, prepared);
      if (prepared.isLate) continue;
      const { changes, mask } = prepared;
      const { temperature } = sequence.sampling;
      const draws = !isGreedy(sequence.sampling) && prepared.error === undefined;
      const tells = sequence.logprobs !== undefined;
      const shares = draws && tells && temperature === 1 && !changes && !mask;
      if (draws) {
        rows.push({ logits, changes, mask, temperature });
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
    for (const { logits } of scored) {
      const prepared: Prepared = { ...unrestricted };
      this.#prepared.set(logits, prepared);
      rows.push({ logits, temperature: 1 });
      keep.push((weights) => {
        prepared.likelihoods = weights;
      });
    }
    if (!this.#runner.weigh || rows.length === 0) return;
    const weighed = await this.#runner.weigh(rows);
    for (const [index, weights] of weighed.entries()) keep[index]!(weights);
  }

  /**
   * @param logits `[vocabSize]`, of those that were prepared
   * @param said   tokens that this step has chosen for the sequence before
   * @returns nothing while it is not known which tokens may come
   * @throws Error when the logits allow no choice
   */
  choose(sequenceId: number, logits: Float32Array, said: readonly number[]): Chosen | undefined {
    const sequence = this.#sequenceOf(sequenceId);
    const prepared = this.#prepared.get(logits);
    invariant(sequence && prepared, "a planned row belongs to a sequence and was prepared");
    if (prepared.isLate) return undefined;
    if (prepared.error !== undefined) throw prepared.error;
    const { sampling, tokens, logprobs: count } = sequence;
    const { changes, mask, draw } = prepared;
    // The likeliest of those that are allowed is found without walking the vocabulary; nobody copies it for that.
    const isKept = !changes && (!mask || isGreedy(sampling));
    const changed = draw || isKept ? logits : this.#apply(logits, prepared);
    const token = this.#sampler.sample(changed, sampling, tokens.length + said.length, {
      weights: draw,
      // What the runner knows of the logits it does not know of changed ones.
      peaks: isKept ? this.#runner.peaksOf?.(logits) : undefined,
      mask: isKept ? mask : undefined,
    });
    if (count === undefined) return { token };
    const likelihoods = prepared.likelihoods ?? this.#weigh(logits);
    return { token, logprobs: logprobsOf(logits, likelihoods, { token, count }) };
  }

  /**
   * @param logits   `[vocabSize]` of the prompt's token at `position`, of those that were prepared
   * @throws Error when they are not all numbers
   */
  score(sequenceId: number, logits: Float32Array, position: number): PromptLogprobs {
    const sequence = this.#sequenceOf(sequenceId);
    invariant(sequence, "a planned row belongs to a sequence");
    const token = sequence.prompt[position + 1];
    invariant(token !== undefined, "only the prompt's tokens are scored");
    const likelihoods = this.#prepared.get(logits)?.likelihoods ?? this.#weigh(logits);
    const count = sequence.promptLogprobs ?? 0;
    return {
      token,
      ...logprobsOf(logits, likelihoods, { token, count }),
      rank: rankOf(logits, likelihoods, token),
    };
  }

  /** A row whose logits leave no token fails by itself, when its turn comes. */
  #restrictionOf(
    id: number,
    row: { sequence: Asking; logits: Float32Array; said: readonly number[] },
  ): Prepared {
    try {
      const { sequence, logits, said } = row;
      const follows = this.#masks?.has(id) ?? false;
      const supposed = said.length;
      const mask =
        supposed === 0 ? this.#masks?.maskOf(id) : this.#masks?.supposedMaskOf(id, supposed);
      // Behind a guess that the grammar refuses nothing may come, and nothing is asked for.
      if (follows && !mask) return { ...unrestricted, isLate: true };
      const wished = this.#wishedBy(row);
      return mask
        ? withMask(logits, mask, sequence.stopIds, wished)
        : { ...unrestricted, changes: wished };
    } catch (error) {
      return { ...unrestricted, error };
    }
  }

  #wishedBy({
    sequence,
    logits,
    said,
  }: {
    sequence: Asking;
    logits: Float32Array;
    said: readonly number[];
  }): LogitChanges | undefined {
    const { sampling, tokens, prompt, stopIds } = sequence;
    if (!wishesAnything(sampling)) return undefined;
    const counts = this.#countsOf(sequence);
    const all = { counts, output: [...tokens.slice(prompt.length), ...said], stopIds };
    return counts.supposing(said, () => logitChanges(logits, sampling, all));
  }

  #countsOf(sequence: Asking): TokenCounts {
    const counts = this.#counts.get(sequence) ?? new TokenCounts();
    this.#counts.set(sequence, counts);
    counts.take(sequence.tokens, sequence.prompt.length);
    return counts;
  }

  #apply(logits: Float32Array, { changes, mask }: Restriction): Float32Array {
    this.#changed.set(logits);
    if (changes) applyChanges(this.#changed, changes);
    if (mask) applyMask(this.#changed, mask);
    return this.#changed;
  }

  #weigh(logits: Float32Array): TokenWeights {
    weigh(this.#own, logits, { max: logits[argmax(logits)]!, temperature: 1 });
    return this.#own;
  }
}

const unrestricted = { changes: undefined, mask: undefined };
