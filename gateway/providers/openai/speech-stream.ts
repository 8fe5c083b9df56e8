/** Audio on its way to the client: bytes as they come, events as they come, or bytes taken out of events. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import type { PassingOptions, PassingStream } from "../format.ts";
import { EventStream, type TypedEvent } from "./event-stream.ts";
import { readMediaUsage } from "./media-usage.ts";

/** Only events tell the tokens that were used, so upstreams may be asked for them where the client reads bytes. */
export function openSpeech(options: PassingOptions): PassingStream {
  const { contentType = "", body = {} } = options;
  if (!/^text\/event-stream\b/i.test(contentType)) return new AudioBytes(contentType);
  const events = (textOf: (event: TypedEvent) => string) =>
    new EventStream({
      ...options,
      frameBytesMax: options.mediaFrameBytesMax ?? options.frameBytesMax,
      isLast: (type) => type === "speech.audio.done",
      readUsage: ({ usage }) => readMediaUsage(usage, { input: "text", output: "audio" }),
      textOf,
    });
  if (body.stream_format === "sse") return events(() => "");
  let audio: Uint8Array[] = [];
  const stream = events((event) => {
    if (typeof event.audio === "string") audio.push(Buffer.from(event.audio, "base64"));
    return "";
  });
  const decoded = (step: StreamStep): StreamStep => {
    const pass = audio;
    audio = [];
    return { ...step, pass };
  };
  return new AudioOfEvents(stream, decoded, audioTypes[String(body.response_format ?? "mp3")]);
}

/** Whatever comes is audio; that it is cut shows in the connection's breaking. */
class AudioBytes implements PassingStream {
  begun = false;
  readonly usage = undefined;
  readonly relayed = "";
  readonly contentType: string;

  constructor(contentType: string) {
    this.contentType = contentType;
  }

  push(chunk: Uint8Array): StreamStep {
    this.begun = true;
    return { pass: [chunk] };
  }

  close(): StreamStep {
    if (this.begun) return { pass: [], end: {} };
    const error = new HubError("upstream_error", "The upstream answered without any audio.");
    return { pass: [], end: { error } };
  }
}

class AudioOfEvents implements PassingStream {
  readonly relayed = "";
  readonly contentType: string;
  readonly #events: EventStream;
  readonly #decoded: (step: StreamStep) => StreamStep;

  constructor(
    events: EventStream,
    decoded: (step: StreamStep) => StreamStep,
    contentType = "application/octet-stream",
  ) {
    this.#events = events;
    this.#decoded = decoded;
    this.contentType = contentType;
  }

  get begun(): boolean {
    return this.#events.begun;
  }

  get usage(): ReadUsage | undefined {
    return this.#events.usage;
  }

  push(chunk: Uint8Array): StreamStep {
    return this.#decoded(this.#events.push(chunk));
  }

  close(): StreamStep {
    return this.#decoded(this.#events.close());
  }
}

const audioTypes: Readonly<Record<string, string>> = {
  mp3: "audio/mpeg",
  opus: "audio/ogg",
  aac: "audio/aac",
  flac: "audio/flac",
  wav: "audio/wav",
  pcm: "audio/pcm",
};
