/** Server-sent events: frames found in bytes however they are cut, and frames written. */
import { PendingBytes } from "./pending-bytes.ts";

/**
 * One event as the WHATWG specification defines it. `raw` is the exact bytes of the frame, its blank
 * line included, so that a relay can pass on what it has read without writing it anew.
 */
export type SseEvent = { event: string | undefined; data: string; raw: Uint8Array };

export type SseParserOptions = {
  /** Bytes that one frame may have before the stream is refused as hostile or broken. */
  frameBytesMax?: number;
};

/**
 * Finds whole frames in a byte stream and leaves their bytes as they are, for a relay that passes them on.
 * Feed it chunks cut anywhere, even inside a character or a line end. Accepts LF, CRLF and CR.
 */
export class SseFramer {
  readonly #pending = new PendingBytes();
  #scanned = 0;
  readonly #frameBytesMax: number;

  constructor(options: SseParserOptions = {}) {
    this.#frameBytesMax = options.frameBytesMax ?? 4 << 20;
  }

  /**
   * The frames completed by this chunk, each with its blank line, in one stretch of memory in order.
   * @throws Error when a frame grows past its bound
   */
  push(chunk: Uint8Array): Uint8Array[] {
    const bytes = this.#pending.push(chunk);
    const frames: Uint8Array[] = [];
    let start = 0;
    let end = findFrameEnd(bytes, start, Math.max(0, this.#scanned - 3));
    while (end !== -1) {
      frames.push(bytes.subarray(start, end));
      start = end;
      end = findFrameEnd(bytes, start, start);
    }
    this.#pending.drop(start);
    this.#scanned = this.#pending.length;
    if (this.#scanned > this.#frameBytesMax) {
      throw new Error(`a server-sent event is larger than ${this.#frameBytesMax} bytes`);
    }
    return frames;
  }

  /** What a stream that ended without its last blank line still held; empty when nothing. */
  end(): Uint8Array {
    this.#scanned = 0;
    return this.#pending.takeAll();
  }
}

/**
 * Finds events in a byte stream, comments and all forms of line ends and fields allowed for.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export class SseParser {
  readonly #framer: SseFramer;

  constructor(options: SseParserOptions = {}) {
    this.#framer = new SseFramer(options);
  }

  /**
   * The events completed by this chunk, comment-only frames left out.
   * @throws Error when a frame grows past its bound
   */
  push(chunk: Uint8Array): SseEvent[] {
    return this.#framer.push(chunk).flatMap((frame) => parseSseFrame(frame) ?? []);
  }

  /** What a stream that ended without its last blank line still held, as an event. */
  end(): SseEvent[] {
    const event = parseSseFrame(this.#framer.end());
    return event ? [event] : [];
  }
}

/** The event that one frame holds; `undefined` for comments alone. */
export function parseSseFrame(raw: Uint8Array): SseEvent | undefined {
  let event: string | undefined;
  let data: string | undefined;
  for (const line of decoder.decode(raw).split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    if (field !== "data" && field !== "event") continue;
    const rest = colon === -1 ? "" : line.slice(colon + 1);
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (field === "event") event = value;
    else data = data === undefined ? value : `${data}\n${value}`;
  }
  return data === undefined ? undefined : { event, data, raw };
}

/** `data: …\n\n`, with an `event:` line where the dialect names its events. */
export function formatSse(data: string, event?: string): string {
  const lines = data.split("\n").map((line) => `data: ${line}\n`);
  return `${event === undefined ? "" : `event: ${event}\n`}${lines.join("")}\n`;
}

/** The frame that ends a chat or text completion's stream. */
export const sseDone = "data: [DONE]\n\n";

/** A comment that keeps proxies from closing an idle stream; clients ignore it. */
export const sseKeepAlive = ": keep-alive\n\n";

/**
 * The index after the blank line that ends the frame, or -1. A lone CR as the last byte is not yet
 * a line end: the LF of a CRLF may still come.
 */
function findFrameEnd(bytes: Uint8Array, start: number, from: number): number {
  let lineStart = from <= start;
  for (let i = Math.max(start, from); i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte !== LF && byte !== CR) {
      lineStart = false;
      continue;
    }
    if (byte === CR && i + 1 === bytes.length) return -1;
    const after = byte === CR && bytes[i + 1] === LF ? i + 2 : i + 1;
    if (lineStart) return after;
    lineStart = true;
    i = after - 1;
  }
  return -1;
}

const LF = 10;
const CR = 13;
const decoder = new TextDecoder();
