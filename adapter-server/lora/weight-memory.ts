/** Shared memory for adapters' weights. */
import { BufferPool } from "./buffer-pool.ts";

/**
 * V8 counts no shared memory when it decides whether to collect garbage, so buffers that are merely let go of by three
 * threads stay for minutes: 80 adapters of 20 MB loaded one after the other took 1.9 GB, where one at a time is 20 MB.
 */
export class WeightMemory extends BufferPool<SharedArrayBuffer> {
  /** @param keptBytesMax of buffers that are free */
  constructor(keptBytesMax: number) {
    super(keptBytesMax, (bytes) => new SharedArrayBuffer(bytes));
  }
}
