/** Buffers of about the same sizes, filled again and again. */
export class BufferPool<B extends ArrayBuffer | SharedArrayBuffer> {
  readonly #keptBytesMax: number;
  readonly #make: (bytes: number) => B;
  /** Nobody reads or writes them; the longest unused first. */
  #free: B[] = [];

  /** @param keptBytesMax of buffers that are free */
  constructor(keptBytesMax: number, make: (bytes: number) => B) {
    this.#keptBytesMax = keptBytesMax;
    this.#make = make;
  }

  get keptBytes(): number {
    return this.#free.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** At least so many bytes, of which nothing is known. */
  take(bytes: number): B {
    const size = sizeClass(bytes);
    const index = this.#free.findLastIndex(({ byteLength }) => byteLength === size);
    const [buffer] = index === -1 ? [] : this.#free.splice(index, 1);
    return buffer ?? this.#make(size);
  }

  /** Whoever gives memory back has made sure that no thread reads or writes it any more. */
  give(buffer: B): void {
    this.#free.push(buffer);
    while (this.keptBytes > this.#keptBytesMax) this.#free.shift();
  }
}

/** Eight sizes for each power of two: adapters that are nearly alike share memory, and an eighth of it is wasted at most. */
function sizeClass(bytes: number): number {
  const step = 2 ** Math.max(12, Math.floor(Math.log2(Math.max(1, bytes))) - 3);
  return Math.ceil(Math.max(1, bytes) / step) * step;
}
