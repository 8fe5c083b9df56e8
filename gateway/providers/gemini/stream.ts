/** Reads Gemini's stream as it is relayed: bytes pass unchanged, usage is found on the way. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { parseSseFrame, SseFramer } from "../../../sdk/protocol/sse.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import type { PassingStream, StreamLimits } from "../format.ts";
import { readGeminiErrorFrame } from "./errors.ts";
import { RelayedFrames } from "./relayed-frames.ts";
import { parseJson, readGeminiUsage } from "./response.ts";

/**
 * Each frame tells the usage so far, so only the newest that does is kept, and parsed when somebody asks. Whether an
 * answer is whole is told by nothing but a reason to finish for each candidate, or for none that was begun.
 */
export class GeminiStream implements PassingStream {
  readonly relayed: RelayedFrames;
  begun = false;
  readonly #framer: SseFramer;
  readonly #unfinished = new Set<number>();
  #finished = false;
  #newestUsage: Uint8Array | undefined;

  constructor({ frameBytesMax, relayedTextCharsMax }: StreamLimits) {
    this.#framer = new SseFramer({ frameBytesMax });
    this.relayed = new RelayedFrames(relayedTextCharsMax);
  }

  get usage(): ReadUsage | undefined {
    if (!this.#newestUsage) return undefined;
    const chunk = parseFrame(this.#newestUsage) as { usageMetadata?: unknown } | undefined;
    return readGeminiUsage(chunk?.usageMetadata);
  }

  push(chunk: Uint8Array): StreamStep {
    let frames: Uint8Array[];
    try {
      frames = this.#framer.push(chunk);
    } catch (cause) {
      return { pass: [], end: { error: cut("sent an event that is too large", cause) } };
    }
    return this.#relay(frames);
  }

  close(): StreamStep {
    const rest = this.#framer.end();
    // What lacks only its last blank line is an event; official SDKs would drop it.
    const isWhole = parseFrame(rest) !== undefined || parseBare(rest) !== undefined;
    const last = isWhole ? this.#relay([withBlankLine(rest)]) : { pass: [] };
    if (last.end) return last;
    return this.#finished && this.#unfinished.size === 0
      ? { pass: last.pass, end: {} }
      : { pass: last.pass, end: { error: cut("ended its stream in the middle of the answer") } };
  }

  #relay(frames: readonly Uint8Array[]): StreamStep {
    const pass: Uint8Array[] = [];
    for (const frame of frames) {
      const error = this.#read(frame);
      if (error) return { pass: joined(pass), end: { error } };
      pass.push(frame);
    }
    return { pass: joined(pass) };
  }

  #read(frame: Uint8Array): HubError | undefined {
    const text = Buffer.from(frame.buffer, frame.byteOffset, frame.length).toString("latin1");
    if (text.startsWith(":")) return undefined;
    if (errorFrame.test(text)) {
      const error = readGeminiErrorFrame(parseFrame(frame) ?? parseBare(frame));
      return error ?? cut("broke off the answer with something else");
    }
    this.begun = true;
    this.#follow(text, frame);
    this.relayed.add(text);
    if (text.includes('"usageMetadata"')) this.#newestUsage = frame;
    return undefined;
  }

  /** Most frames go on with the one candidate; others are parsed. */
  #follow(text: string, frame: Uint8Array): void {
    const says = text.includes('"finishReason"') || text.includes('"blockReason"');
    if (!says && !text.includes('"index"')) {
      if (text.includes('"candidates"')) this.#unfinished.add(0);
      return;
    }
    const chunk = parseFrame(frame) as PassingChunk | undefined;
    if (chunk?.promptFeedback?.blockReason) this.#finished = true;
    if (!Array.isArray(chunk?.candidates)) return;
    for (const candidate of chunk.candidates) {
      const index = candidate?.index ?? 0;
      if (candidate?.finishReason) {
        this.#finished = true;
        this.#unfinished.delete(index);
      } else if (this.#unfinished.size < candidatesMax) this.#unfinished.add(index);
    }
  }
}

type PassingChunk = {
  candidates?: ({ index?: number; finishReason?: string } | null)[];
  promptFeedback?: { blockReason?: string } | null;
};

/** Neighbours become one piece of memory again, usually the very chunk that came. */
function joined(frames: readonly Uint8Array[]): Uint8Array[] {
  const [first] = frames;
  const last = frames.at(-1);
  if (!first || !last || first === last) return [...frames];
  const length = frames.reduce((sum, frame) => sum + frame.length, 0);
  const isOne =
    first.buffer === last.buffer && last.byteOffset + last.length - first.byteOffset === length;
  return [isOne ? new Uint8Array(first.buffer, first.byteOffset, length) : Buffer.concat(frames)];
}

function parseFrame(frame: Uint8Array): unknown {
  return parseJson(parseSseFrame(frame)?.data ?? "");
}

function parseBare(frame: Uint8Array): unknown {
  return parseJson(Buffer.from(frame).toString());
}

function cut(what: string, cause?: unknown): HubError {
  return new HubError("upstream_error", `The upstream ${what}.`, { cause });
}

function withBlankLine(rest: Uint8Array): Uint8Array {
  return Buffer.concat([rest, Buffer.from("\n\n")]);
}

/** It may come without `data:`, as a body of its own. */
const errorFrame = /^(?:(?:event: ?error\r?\n)?data: ?\[?\{\s*"error":\s*\{|\s*[[{])/;
/** More than any model makes. */
const candidatesMax = 128;
