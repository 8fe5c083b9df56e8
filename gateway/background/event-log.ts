/** Gathers a response's events and writes them down, several at a time. */
import { formatSse } from "../../sdk/protocol/sse.ts";
import type { EventBatch } from "./store.ts";

export type EventLogOptions = {
  /** @throws when they could not be written; they are tried again with what comes next */
  write: (batch: EventBatch) => Promise<void>;
  /** How long an event may wait for company. */
  delayMs: number;
  /** Of events that wait, after which the log is full. */
  pendingBytesMax: number;
};

export class EventLog {
  readonly #options: EventLogOptions;
  #pending: string[] = [];
  #pendingBytes = 0;
  /** Of the first pending event. */
  #first = 0;
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing = Promise.resolve();
  #closed = false;

  constructor(options: EventLogOptions) {
    this.#options = options;
  }

  /** Of all events so far, as text. */
  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#pendingBytes > this.#options.pendingBytesMax;
  }

  /** Gives the event its number. */
  add(type: string, fields: object): void {
    const sequence_number = this.#first + this.#pending.length;
    const frame = formatSse(JSON.stringify({ ...fields, type, sequence_number }), type);
    this.#pending.push(frame);
    this.#pendingBytes += frame.length;
    this.#bytes += frame.length;
    this.#schedule();
  }

  /** Writes what waits, after what is being written; never throws. */
  write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#writeOnce());
    return this.#writing;
  }

  /** Stops writing, and hands over what still waits. */
  async close(): Promise<EventBatch | undefined> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#writing;
    return this.#waiting();
  }

  async #writeOnce(): Promise<void> {
    const batch = this.#waiting();
    if (!batch || this.#closed) return;
    try {
      await this.#options.write(batch);
      this.#written(batch);
    } catch {
      // The database is away; there will be a next time, or none.
      this.#schedule();
    }
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => void this.write(), this.#options.delayMs);
  }

  #waiting(): EventBatch | undefined {
    if (this.#pending.length === 0) return undefined;
    const last = this.#first + this.#pending.length - 1;
    return { first: this.#first, last, frames: this.#pending.join("") };
  }

  #written({ first, last, frames }: EventBatch): void {
    this.#pending = this.#pending.slice(last - first + 1);
    this.#first = last + 1;
    this.#pendingBytes -= frames.length;
  }
}
