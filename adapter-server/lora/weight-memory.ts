/**
 * Shared memory for adapters' weights, filled again and again. V8 counts no shared memory when it decides whether to
 * collect garbage, so buffers that are merely let go of by three threads stay for minutes: 80 adapters of 20 MB loaded
 * one after the other took 1.9 GB, where one at a time is 20 MB.
 */
export class WeightMemory {
  readonly #keptBytesMax: number;
  /** Nobody reads or writes them; the longest unused first. */
  #free: SharedArrayBuffer[] = [];

  /** @param keptBytesMax of buffers that are free */
  constructor(keptBytesMax: number) {
    this.#keptBytesMax = keptBytesMax;
  }

  get keptBytes(): number {
    return this.#free.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** At least so many bytes, of which nothing is known. */
  take(bytes: number): SharedArrayBuffer {
    const size = sizeClass(bytes);
    const index = this.#free.findLastIndex(({ byteLength }) => byteLength === size);
    const [buffer] = index === -1 ? [] : this.#free.splice(index, 1);
    return buffer ?? new SharedArrayBuffer(size);
  }

  /** Whoever gives memory back has made sure that no thread reads or writes it any more. */
  give(buffer: SharedArrayBuffer): void {
    this.#free.push(buffer);
    while (this.keptBytes > this.#keptBytesMax) this.#free.shift();
  }
}

/** Eight sizes for each power of two: adapters that are nearly alike share memory, and an eighth of it is wasted at most. */
function sizeClass(bytes: number): number {
  const step = 2 ** Math.max(12, Math.floor(Math.log2(Math.max(1, bytes))) - 3);
  return Math.ceil(Math.max(1, bytes) / step) * step;
}
