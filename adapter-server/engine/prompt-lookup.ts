/** Guesses what a sequence says next from where it, or its prompt, said the same before. */

/**
 * An index of a sequence's pairs of tokens. Answers that quote their prompt, such as extracted fields, edits and
 * code, are guessed well; guesses are verified by the model, so they change no answer, only how fast it comes.
 * @see Saxena, "Prompt Lookup Decoding", 2023; Leviathan et al., arXiv:2211.17192, for verifying many at once
 */
export class PromptLookup {
  /** By pair of tokens: where it ended last. */
  readonly #last = new Map<number, number>();
  /** By position: where the pair that ends there ended before; 0 is nowhere. */
  readonly #before: number[] = [];
  /** The most that is guessed at one time; grows while guesses hold. */
  #length = lengthAtFirst;
  /** Guesses in a row of which nothing held, and the sequence's length before which none is made again. */
  #misses = 0;
  #silentUntil = 0;

  /** At most `max` tokens that may follow `tokens`; none when nothing like their end is known. */
  guess(tokens: readonly number[], max: number): number[] {
    this.#index(tokens);
    if (max < 1 || tokens.length < this.#silentUntil) return [];
    const likest = this.#likest(tokens);
    if (!likest) return [];
    // A short likeness is a weak one, and says little of what comes far behind it.
    const length = Math.min(this.#length, max, guessedPerAlike * likest.alike);
    const guessed: number[] = [];
    for (let i = 0; i < length; i++) {
      // What repeats itself without end goes on into what was just guessed.
      const at = likest.place + 1 + i;
      guessed.push(at < tokens.length ? tokens[at]! : guessed[at - tokens.length]!);
    }
    return guessed;
  }

  /** Of `guessed` tokens the first `held` were what the model said; `length` is the sequence's now. */
  observe({ guessed, held, length }: { guessed: number; held: number; length: number }): void {
    if (held === guessed) this.#length = Math.min(lengthMax, Math.max(this.#length, 2 * guessed));
    else this.#length = Math.max(lengthMin, held + 1, Math.floor(this.#length / 2));
    this.#misses = held === 0 ? Math.min(this.#misses + 1, missesMax) : 0;
    this.#silentUntil = held === 0 ? length + 2 ** this.#misses : 0;
  }

  /** Enters the pairs up to the last but one: the last is what is looked for. */
  #index(tokens: readonly number[]): void {
    for (let end = Math.max(1, this.#before.length); end < tokens.length; end++) {
      const pair = pairOf(tokens, end);
      this.#before[end] = this.#last.get(pair) ?? 0;
      this.#last.set(pair, end);
    }
  }

  /** The place before the end that is like it for longest, the latest of equals. */
  #likest(tokens: readonly number[]): { place: number; alike: number } | undefined {
    let best: { place: number; alike: number } | undefined;
    let place = this.#before[tokens.length - 1] ?? 0;
    for (let tried = 0; place > 0 && tried < placesMax; tried++) {
      const alike = alikeBefore(tokens, place);
      if (alike > (best?.alike ?? 0)) best = { place, alike };
      place = this.#before[place] ?? 0;
    }
    return best;
  }
}

/** Exact for vocabularies below 2^26. */
function pairOf(tokens: readonly number[], end: number): number {
  return tokens[end - 1]! * 2 ** 26 + tokens[end]!;
}

/** How many tokens up to `place` are those up to the end. */
function alikeBefore(tokens: readonly number[], place: number): number {
  const end = tokens.length - 1;
  let alike = 0;
  while (alike < alikeMax && place >= alike && tokens[place - alike] === tokens[end - alike])
    alike++;
  return alike;
}

const lengthAtFirst = 8;
const lengthMin = 4;
const lengthMax = 15;
const guessedPerAlike = 3;
/** After that many useless guesses one is made every 2^n tokens. */
const missesMax = 6;
/** Places that are compared, and tokens of each: enough to tell a quotation from a common pair. */
const placesMax = 32;
const alikeMax = 16;
