/** Keeps what an upstream says, as it says it, as far as there is room. */
import type { Answer } from "../canonical/answer.ts";
import type { TransportResponse } from "../providers/transport.ts";

/** Bytes that contents may take in this process, from when they come until they are in the database. */
export class Room {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  take(bytes: number): boolean {
    if (this.#bytes + bytes > this.#bytesMax) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/** What was heard of one answer, and who can read it. */
export type Heard = {
  bytes: Uint8Array;
  stream: boolean;
  /** There was more. */
  truncated: boolean;
  /** What it says; nothing where it is in no words. @throws where the bytes are not what they should be */
  read: (bytes: Uint8Array) => Answer | { body: unknown } | undefined;
};

/** Of one call of an upstream: copies into a buffer of its own, which grows by doubling. */
export class Hearing {
  truncated = false;
  readonly #room: Room;
  readonly #bytesMax: number;
  #buffer = Buffer.alloc(0);
  #length = 0;

  constructor(room: Room, bytesMax: number) {
    this.#room = room;
    this.#bytesMax = bytesMax;
  }

  /** The same response; what is read of it is heard. */
  of(response: TransportResponse): TransportResponse {
    return {
      status: response.status,
      header: (name) => response.header(name),
      read: async () => {
        const chunk = await response.read();
        if (chunk) this.push(chunk);
        return chunk;
      },
      cancel: () => response.cancel(),
    };
  }

  push(chunk: Uint8Array): void {
    if (this.truncated) return;
    const fits = Math.min(chunk.length, this.#bytesMax - this.#length);
    if (!this.#grow(this.#length + fits)) {
      this.truncated = true;
      return;
    }
    this.#buffer.set(chunk.subarray(0, fits), this.#length);
    this.#length += fits;
    this.truncated = fits < chunk.length;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Gives its room back. */
  close(): void {
    this.#room.give(this.#buffer.length);
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    this.truncated = true;
  }

  #grow(length: number): boolean {
    const { length: capacity } = this.#buffer;
    if (length <= capacity) return true;
    const wanted = Math.min(this.#bytesMax, Math.max(length, 2 * capacity, firstBytes));
    if (!this.#room.take(wanted - capacity)) return false;
    const grown = Buffer.allocUnsafeSlow(wanted);
    grown.set(this.bytes);
    this.#buffer = grown;
    return true;
  }
}

const firstBytes = 4096;
