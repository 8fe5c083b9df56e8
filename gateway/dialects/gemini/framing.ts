/** The two forms of Google's streams: server-sent events with `alt=sse`, and a JSON array that grows without it. */
import type { HubError } from "../../../sdk/protocol/errors.ts";
import { formatSse, SseParser } from "../../../sdk/protocol/sse.ts";
import type { AnswerStream, StreamStep } from "../../attempts/answer-stream.ts";
import type { PassingStream } from "../../providers/format.ts";

/** What stands around the chunks of one stream. */
export type Framing = {
  /** @param json one chunk */
  write(json: string): string;
  end(): string;
};

export function sseFraming(): Framing {
  return { write: (json) => formatSse(json), end: () => "" };
}

export function arrayFraming(): Framing {
  let begun = false;
  return {
    write(json) {
      const before = begun ? ",\r\n" : "[";
      begun = true;
      return before + json;
    },
    end: () => (begun ? "]" : "[]"),
  };
}

/** A stream of events that passes, its chunks as they are, in an array instead of in events. */
export class ArrayStream implements AnswerStream {
  readonly #inner: PassingStream;
  readonly #framing = arrayFraming();
  readonly #parser = new SseParser();
  readonly #toError: (error: HubError) => unknown;

  constructor(inner: PassingStream, toError: (error: HubError) => unknown) {
    this.#inner = inner;
    this.#toError = toError;
  }

  get begun() {
    return this.#inner.begun;
  }

  get usage() {
    return this.#inner.usage;
  }

  get relayed() {
    return this.#inner.relayed;
  }

  push(chunk: Uint8Array): StreamStep {
    return this.#reframe(this.#inner.push(chunk));
  }

  close(): StreamStep {
    return this.#reframe(this.#inner.close());
  }

  ending(error: HubError | undefined): Uint8Array {
    const told = error ? this.#framing.write(JSON.stringify(this.#toError(error))) : "";
    return Buffer.from(told + this.#framing.end());
  }

  /** What passes are whole events, so nothing is left over between two steps. */
  #reframe({ pass, ...step }: StreamStep): StreamStep {
    const events = pass.flatMap((bytes) => this.#parser.push(bytes));
    const text = events.map(({ data }) => this.#framing.write(data)).join("");
    return { ...step, pass: text === "" ? [] : [Buffer.from(text)] };
  }
}
