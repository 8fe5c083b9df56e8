/** Bytes of a stream that wait for more, joined without copying each of them again and again. */

/**
 * A frame that comes in many pieces is copied about twice in all, however many there are: memory of our own
 * doubles. Bytes that were given out are never written over, so they may go on without being copied.
 */
export class PendingBytes {
  #bytes: Uint8Array = empty;
  /** Whether the memory behind the bytes, to its end, is ours. */
  #isOurs = false;

  get length(): number {
    return this.#bytes.length;
  }

  /** @returns all that waits, the chunk last, in one stretch of memory */
  push(chunk: Uint8Array): Uint8Array {
    const before = this.#bytes;
    if (before.length === 0) {
      this.#bytes = chunk;
      this.#isOurs = false;
      return chunk;
    }
    const length = before.length + chunk.length;
    const end = before.byteOffset + before.length;
    if (this.#isOurs && chunk.length <= before.buffer.byteLength - end) {
      new Uint8Array(before.buffer, end, chunk.length).set(chunk);
      this.#bytes = new Uint8Array(before.buffer, before.byteOffset, length);
      return this.#bytes;
    }
    // Most frames are whole after one more piece, so room is made only for those that are not.
    const memory = new Uint8Array(this.#isOurs ? 2 * length : length);
    memory.set(before);
    memory.set(chunk, before.length);
    this.#bytes = memory.subarray(0, length);
    this.#isOurs = true;
    return this.#bytes;
  }

  /** Takes bytes off the front; what is left still waits. */
  drop(count: number): void {
    this.#bytes = count === this.#bytes.length ? empty : this.#bytes.subarray(count);
  }

  /** Takes all of it. */
  takeAll(): Uint8Array {
    const bytes = this.#bytes;
    this.#bytes = empty;
    return bytes;
  }
}

const empty = new Uint8Array(0);
