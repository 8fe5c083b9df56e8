/** The same random numbers in every run, quickly: a linear congruential generator. */
export class RandomNumbers {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 2_654_435_761) >>> 0;
  }

  /** 32 bits, of which the upper ones are the better. */
  bits(): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#state;
  }

  /** Values spread evenly between -magnitude and magnitude. */
  floats(length: number, magnitude: number): Float32Array {
    const values = new Float32Array(length);
    for (let i = 0; i < length; i++) values[i] = (this.bits() / 2 ** 31 - 1) * magnitude;
    return values;
  }
}
