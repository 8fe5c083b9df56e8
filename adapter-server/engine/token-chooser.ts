/** Chooses the tokens of a step: penalty, draw and log-probabilities of each row, as its sequence asks for them. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { logprobsOf } from "./logprobs.ts";
import { RepetitionPenalty } from "./repetition-penalty.ts";
import { isGreedy, Sampler } from "./sampler.ts";
import type { Chosen, SequenceRequest } from "./sequence.ts";
import {
  argmax,
  emptyWeights,
  type TokenWeights,
  type WeighedRow,
  weigh,
} from "./token-weights.ts";
import type { ModelRunner } from "./types.ts";

type Asking = Readonly<
  Pick<SequenceRequest, "sampling" | "logprobs"> & { tokens: readonly number[] }
>;

export class TokenChooser {
  readonly #runner: Pick<ModelRunner, "weigh" | "peaksOf">;
  readonly #sequenceOf: (id: number) => Asking | undefined;
  readonly #penalty: RepetitionPenalty;
  readonly #sampler: Sampler;
  readonly #own: TokenWeights;
  /** By logits, then by temperature, what was weighed natively for the step under way. */
  #weighed = new Map<Float32Array, Map<number, TokenWeights>>();

  constructor(runner: ModelRunner, sequenceOf: (id: number) => Asking | undefined) {
    const { vocabSize } = runner.dims;
    this.#runner = runner;
    this.#sequenceOf = sequenceOf;
    this.#penalty = new RepetitionPenalty(vocabSize);
    this.#sampler = new Sampler(vocabSize);
    this.#own = emptyWeights(vocabSize);
  }

  /** Weighs all tokens that a step's choices need weighed, in one call. */
  async prepare(results: readonly { sequenceId: number; logits: Float32Array }[]): Promise<void> {
    this.#weighed = new Map();
    if (!this.#runner.weigh) return;
    const rows = results.flatMap(({ sequenceId, logits }): WeighedRow[] =>
      this.#temperatures(sequenceId).map((temperature) => ({ logits, temperature })),
    );
    if (rows.length === 0) return;
    const weighed = await this.#runner.weigh(rows);
    for (const [index, { logits, temperature }] of rows.entries()) {
      const known = this.#weighed.get(logits) ?? new Map<number, TokenWeights>();
      this.#weighed.set(logits, known.set(temperature, weighed[index]!));
    }
  }

  /**
   * @param logits `[vocabSize]`
   * @param said   tokens that this step has chosen for the sequence before
   * @throws Error when the logits allow no choice
   */
  choose(sequenceId: number, logits: Float32Array, said: readonly number[]): Chosen {
    const sequence = this.#sequenceOf(sequenceId);
    invariant(sequence, "a planned row belongs to a sequence");
    const { sampling, tokens, logprobs: count } = sequence;
    const penalized = this.#penalty.apply(logits, [tokens, said], sampling.repetitionPenalty);
    // What the runner knows of the logits it does not know of penalized ones.
    const token = this.#sampler.sample(penalized, sampling, tokens.length + said.length, {
      weights: this.#weighed.get(penalized)?.get(sampling.temperature),
      peaks: this.#runner.peaksOf?.(penalized),
    });
    if (count === undefined) return { token };
    return { token, logprobs: logprobsOf(logits, this.#likelihoods(logits), { token, count }) };
  }

  /** At which the tokens are weighed for a sequence: its own for a draw, 1 for log-probabilities. */
  #temperatures(sequenceId: number): number[] {
    const sequence = this.#sequenceOf(sequenceId);
    if (!sequence) return [];
    const { sampling, logprobs } = sequence;
    const drawn = !isGreedy(sampling) && sampling.repetitionPenalty === 1;
    return [
      ...new Set([
        ...(drawn ? [sampling.temperature] : []),
        ...(logprobs === undefined ? [] : [1]),
      ]),
    ];
  }

  #likelihoods(logits: Float32Array): TokenWeights {
    const weighed = this.#weighed.get(logits)?.get(1);
    if (weighed) return weighed;
    weigh(this.#own, logits, { max: logits[argmax(logits)]!, temperature: 1 });
    return this.#own;
  }
}
