/**
 * Reads a stream of events that each tell their `type`, as OpenAI's newer endpoints have it: bytes pass unchanged, usage
 * is found on the way. Such streams end with an event of their own and have no `[DONE]`.
 */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { parseSseFrame, SseFramer } from "../../../sdk/protocol/sse.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import { type PassingStream, type Relayed, RelayedSoFar } from "../format.ts";
import { readErrorFrame } from "./errors.ts";
import { addUsage } from "./media-usage.ts";

export type TypedEvent = { type: string; [field: string]: unknown };

export type EventStreamOptions = {
  frameBytesMax: number;
  relayedTextCharsMax: number;
  /** Whether an event of that type ends the answer, or one of several parts of it. */
  isLast: (type: string) => boolean;
  /** Of an event that ends the answer or a part; parts add up. */
  readUsage: (event: TypedEvent) => ReadUsage | undefined;
  /** What the model wrote in an event. */
  textOf: (event: TypedEvent) => string;
};

export class EventStream implements PassingStream {
  begun = false;
  usage: ReadUsage | undefined;
  readonly relayed: Relayed;
  readonly #options: EventStreamOptions;
  readonly #framer: SseFramer;
  #text = "";
  /** The newest event that may be the end: it passes when the request is settled, or when more comes. */
  #held: Uint8Array[] = [];
  #ended = false;

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#framer = new SseFramer(options);
    this.relayed = new RelayedSoFar(() => this.#text);
  }

  push(chunk: Uint8Array): StreamStep {
    let frames: Uint8Array[];
    try {
      frames = this.#framer.push(chunk);
    } catch (cause) {
      return { pass: [], end: { error: broken("sent an event that is too large", cause) } };
    }
    return this.#relay(frames);
  }

  close(): StreamStep {
    const rest = this.#framer.end();
    const last = parseSseFrame(rest)
      ? this.#relay([Buffer.concat([rest, Buffer.from("\n\n")])])
      : { pass: [] };
    if (last.end) return last;
    if (this.#ended) return { ...last, end: {} };
    return {
      pass: [...last.pass, ...this.#held],
      end: { error: broken("ended its stream in the middle of the answer") },
    };
  }

  held(): Uint8Array | undefined {
    return this.#ended ? Buffer.concat(this.#held) : undefined;
  }

  #relay(frames: readonly Uint8Array[]): StreamStep {
    const pass: Uint8Array[] = [];
    for (const frame of frames) {
      const data = parseSseFrame(frame)?.data;
      if (data === undefined) {
        // A comment: a sign of life, which may pass before what is held.
        pass.push(frame);
        continue;
      }
      if (data === "[DONE]") {
        this.#held.push(frame);
        return { pass, end: this.#ended ? {} : { error: broken("ended without an answer") } };
      }
      const event = parseEvent(data);
      const failed = event && (event.type === "error" || event.error != null);
      if (!event || failed) {
        const error = failed ? readErrorFrame(event) : broken("sent what is no event");
        return { pass, end: { error: error ?? broken("broke off the answer with an error") } };
      }
      this.begun = true;
      pass.push(...this.#held);
      this.#held = [];
      this.#note(event);
      if (this.#options.isLast(event.type)) {
        this.usage = addUsage(this.usage, this.#options.readUsage(event));
        this.#held = [frame];
        this.#ended = true;
      } else pass.push(frame);
    }
    return { pass };
  }

  #note(event: TypedEvent): void {
    if (this.#text.length >= this.#options.relayedTextCharsMax) return;
    this.#text += this.#options.textOf(event);
  }
}

/** @returns undefined for what is no JSON of an object */
function parseEvent(data: string): TypedEvent | undefined {
  try {
    const event = JSON.parse(data) as unknown;
    if (typeof event !== "object" || event === null) return undefined;
    return { type: "", ...event };
  } catch {
    return undefined;
  }
}

function broken(what: string, cause?: unknown): HubError {
  return new HubError("upstream_error", `The upstream ${what}.`, { cause });
}
