/** Memory that adapters' files are read into. */
import { BufferPool } from "./buffer-pool.ts";

/**
 * Files as garbage are collected beside the engine's steps: V8 counts their memory, so every few loads it walks the
 * whole heap, in threads with the priority of the engine's. That took more than packing did.
 */
export class FileMemory {
  readonly #pool: BufferPool<ArrayBuffer>;

  constructor(keptBytesMax = keptBytesMaxDefault) {
    this.#pool = new BufferPool(keptBytesMax, (bytes) => new ArrayBuffer(bytes));
  }

  get keptBytes(): number {
    return this.#pool.keptBytes;
  }

  /** So many bytes at the start of a buffer of their own, of which nothing is known. */
  take(bytes: number): Uint8Array {
    if (bytes < smallestBytes) return new Uint8Array(bytes);
    return new Uint8Array(this.#pool.take(bytes), 0, bytes);
  }

  /** Nobody reads the file any more. What went to another thread and did not come back is not there to be kept. */
  give({ buffer }: Uint8Array): void {
    if (!(buffer instanceof ArrayBuffer) || buffer.byteLength < smallestBytes) return;
    this.#pool.give(buffer);
  }
}

/** Smaller ones may lie in one buffer with others, and are collected cheaply. */
export const smallestBytes = 64 << 10;
const keptBytesMaxDefault = 64 << 20;
