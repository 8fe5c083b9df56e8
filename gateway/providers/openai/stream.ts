/** Reads a chat completion's stream as it is relayed: bytes pass unchanged, usage is found on the way. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { parseSseFrame, SseFramer } from "../../../sdk/protocol/sse.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import type { PassingStream } from "../format.ts";
import { Stretches } from "../stretches.ts";
import { readErrorFrame } from "./errors.ts";
import { RelayedText, type TextPlace } from "./relayed-text.ts";
import { readReportedUsage } from "./response.ts";

export type ChatStreamOptions = {
  /** Whether the client asked for the usage chunk; else it is taken out. */
  wantsUsage: boolean;
  frameBytesMax: number;
  relayedTextCharsMax: number;
  /** Where the model's words stand; as in a chat, when absent. */
  text?: TextPlace;
};

/**
 * A frame is decoded as Latin-1, which only copies, and searched for a few ASCII keys; JSON is parsed for
 * the one frame that tells the usage. Text inside JSON strings cannot be taken for a key, because
 * quotes in it are escaped.
 */
export class ChatStream implements PassingStream {
  readonly relayed: RelayedText;
  /** Whether something was said, and not only that an answer begins, or comments while it waits. */
  begun = false;
  readonly #framer: SseFramer;
  readonly #wantsUsage: boolean;
  #usage: ReadUsage | undefined;
  #finished = false;

  constructor({ wantsUsage, frameBytesMax, relayedTextCharsMax, text }: ChatStreamOptions) {
    this.#wantsUsage = wantsUsage;
    this.#framer = new SseFramer({ frameBytesMax });
    this.relayed = new RelayedText(relayedTextCharsMax, text);
  }

  /** The newest usage that the upstream told. */
  get usage(): ReadUsage | undefined {
    return this.#usage;
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

  /** The upstream closed its stream. Without `[DONE]` it is whole only if the answer had finished. */
  close(): StreamStep {
    const rest = this.#framer.end();
    // Some forget the last blank line; official SDKs drop such an event, so the line is added.
    const last = parseSseFrame(rest) ? this.#relay([withBlankLine(rest)]) : { pass: [] };
    if (last.end) return last;
    return this.#finished
      ? { pass: last.pass, end: {} }
      : { pass: last.pass, end: { error: cut("ended its stream in the middle of the answer") } };
  }

  #relay(frames: readonly Uint8Array[]): StreamStep {
    const stretches = new Stretches();
    for (const frame of frames) {
      switch (this.#read(frame)) {
        case "pass":
          this.begun ||= frame[0] !== colon && !isHead(parseFrame(frame));
          stretches.add(frame);
          break;
        case "swallow":
          break;
        case "done":
          return { pass: stretches.all, end: {} };
        case "error":
          return {
            pass: stretches.all,
            end: {
              error: readErrorFrame(parseFrame(frame)) ?? cut("broke off the answer with an error"),
            },
          };
      }
    }
    return { pass: stretches.all };
  }

  #read(frame: Uint8Array): "pass" | "swallow" | "done" | "error" {
    const text = Buffer.from(frame.buffer, frame.byteOffset, frame.length).toString("latin1");
    if (text.length < 24 && doneFrame.test(text)) return "done";
    if (errorFrame.test(text)) return "error";
    if (!this.#finished) this.#finished = hasValue(text, '"finish_reason":');
    this.relayed.add(text);
    if (!hasValue(text, '"usage":')) return "pass";

    const chunk = parseFrame(frame) as { usage?: unknown; choices?: unknown } | undefined;
    this.#usage = readReportedUsage(chunk?.usage) ?? this.#usage;
    const onlyUsage = !Array.isArray(chunk?.choices) || chunk.choices.length === 0;
    return onlyUsage && !this.#wantsUsage ? "swallow" : "pass";
  }
}

/** A first event that names the speaker and says nothing yet. */
function isHead(chunk: unknown): boolean {
  const { choices } = (chunk ?? {}) as { choices?: { delta?: object; finish_reason?: unknown }[] };
  if (!Array.isArray(choices) || choices.length === 0) return false;
  return choices.every((choice) => {
    const { delta, finish_reason } = choice ?? {};
    if (finish_reason != null || typeof delta !== "object" || delta === null) return false;
    return Object.entries(delta).every(([name, value]) => name === "role" || !value);
  });
}

/** Whether a key is there with a value that is not `null`. */
function hasValue(text: string, key: string): boolean {
  for (let at = text.indexOf(key); at !== -1; at = text.indexOf(key, at + 1)) {
    let value = at + key.length;
    while (text.charCodeAt(value) === space) value++;
    if (text[value] !== "n") return true;
  }
  return false;
}

function parseFrame(frame: Uint8Array): unknown {
  try {
    return JSON.parse(parseSseFrame(frame)?.data ?? "");
  } catch {
    return undefined;
  }
}

function cut(what: string, cause?: unknown): HubError {
  return new HubError("upstream_error", `The upstream ${what}.`, { cause });
}

function withBlankLine(rest: Uint8Array): Uint8Array {
  return Buffer.concat([rest, Buffer.from("\n\n")]);
}

const doneFrame = /^data: ?\[DONE\]\s*$/;
const errorFrame = /^(?:event: ?error\r?\n)?data: ?\{\s*"error":\s*[{"]/;
const space = 32;
const colon = 58;
