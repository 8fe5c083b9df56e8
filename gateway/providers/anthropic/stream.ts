/** Reads a message's stream as it is relayed: bytes pass unchanged, usage is found on the way. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { parseSseFrame, SseFramer } from "../../../sdk/protocol/sse.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import type { PassingStream, StreamLimits } from "../format.ts";
import { RelayedText, type TextPlace } from "../openai/relayed-text.ts";
import { Stretches } from "../stretches.ts";
import { readErrorEvent } from "./errors.ts";
import { UsageTotals } from "./usage.ts";

/**
 * A frame is decoded as Latin-1, which only copies, and known by its event's name; JSON is parsed for the two frames
 * that tell the usage. The last frame is held back: the client sees the end when the request is settled.
 */
export class MessageStream implements PassingStream {
  readonly relayed: RelayedText;
  /** Whether a block has begun: before, only the head has come, and signs of life. */
  begun = false;
  readonly #framer: SseFramer;
  readonly #totals = new UsageTotals();
  #stopped = false;

  constructor({ frameBytesMax, relayedTextCharsMax }: StreamLimits) {
    this.#framer = new SseFramer({ frameBytesMax });
    this.relayed = new RelayedText(relayedTextCharsMax, writtenText);
  }

  get usage(): ReadUsage | undefined {
    return this.#totals.read();
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

  /** The upstream closed its stream. Without `message_stop` it is whole only if it told why it stopped. */
  close(): StreamStep {
    const rest = this.#framer.end();
    const last = parseSseFrame(rest)
      ? this.#relay([Buffer.concat([rest, blankLine])])
      : { pass: [] };
    if (last.end) return last;
    return this.#stopped
      ? { pass: last.pass, end: {} }
      : { pass: last.pass, end: { error: cut("ended its stream in the middle of the answer") } };
  }

  #relay(frames: readonly Uint8Array[]): StreamStep {
    const stretches = new Stretches();
    for (const frame of frames) {
      const text = Buffer.from(frame.buffer, frame.byteOffset, frame.length).toString("latin1");
      const type = typeOf(text);
      if (type === "message_stop") return { pass: stretches.all, end: {} };
      if (type === "error") {
        const error = readErrorEvent(parseFrame(frame));
        return {
          pass: stretches.all,
          end: { error: error ?? cut("broke off the answer with an error") },
        };
      }
      this.#read(type, text, frame);
      stretches.add(frame);
    }
    return { pass: stretches.all };
  }

  #read(type: string | undefined, text: string, frame: Uint8Array): void {
    switch (type) {
      case "message_start":
        this.#totals.add(messageOf(parseFrame(frame))?.usage);
        return;
      case "message_delta":
        this.#totals.add((parseFrame(frame) as { usage?: unknown } | undefined)?.usage);
        this.#stopped = true;
        this.begun = true;
        return;
      case "content_block_delta":
        this.begun = true;
        this.relayed.add(text);
        return;
      case "content_block_start":
      case "content_block_stop":
        this.begun = true;
    }
  }
}

/** The event's name; who leaves it out has the type in the JSON. */
function typeOf(frame: string): string | undefined {
  return (eventLine.exec(frame) ?? typeField.exec(frame))?.[1];
}

function messageOf(event: unknown): { usage?: unknown } | undefined {
  return (event as { message?: { usage?: unknown } | null } | undefined)?.message ?? undefined;
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

const writtenText: TextPlace = {
  below: '"delta":',
  keys: [['"text":'], ['"thinking":'], ['"partial_json":']],
};
const eventLine = /^event: ?(\w+)/m;
const typeField = /"type": ?"(\w+)"/;
const blankLine = Buffer.from("\n\n");
