/** Frames of AWS's event streams: length, headers, payload, each with its checksum. */
import { EventStreamCodec } from "@smithy/eventstream-codec";

export type Frame = {
  /** As it came. */
  bytes: Uint8Array;
  /** Such as `contentBlockDelta`, or of an exception such as `throttlingException`. */
  name: string;
  isError: boolean;
  payload: Uint8Array;
};

/** @see https://smithy.io/2.0/aws/amazon-eventstream.html */
export class FrameReader {
  readonly #frameBytesMax: number;
  #pending: Buffer = Buffer.alloc(0);

  constructor({ frameBytesMax }: { frameBytesMax: number }) {
    this.#frameBytesMax = frameBytesMax;
  }

  /** Whether a frame has begun that did not end. */
  get isCut(): boolean {
    return this.#pending.length > 0;
  }

  /** @throws Error when a frame grows past its bound, or its checksums are not right */
  push(chunk: Uint8Array): Frame[] {
    this.#pending =
      this.#pending.length === 0
        ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
        : Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    while (this.#pending.length >= 4) {
      const length = this.#pending.readUInt32BE(0);
      if (length > this.#frameBytesMax || length < frameBytesMin) {
        throw new Error(`a frame of ${length} bytes is not accepted`);
      }
      if (this.#pending.length < length) break;
      frames.push(readFrame(this.#pending.subarray(0, length)));
      this.#pending = this.#pending.subarray(length);
    }
    return frames;
  }
}

/** @param kind `event`, or `exception`, which ends a stream */
export function writeFrame(
  kind: "event" | "exception",
  name: string,
  payload: unknown,
): Uint8Array {
  const type = (value: string) => ({ type: "string", value }) as const;
  return codec.encode({
    headers: {
      [`:${kind}-type`]: type(name),
      ":content-type": type("application/json"),
      ":message-type": type(kind),
    },
    body: Buffer.from(JSON.stringify(payload)),
  });
}

function readFrame(bytes: Uint8Array): Frame {
  const { headers, body } = codec.decode(bytes);
  const header = (name: string) => {
    const value = headers[name]?.value;
    return typeof value === "string" ? value : undefined;
  };
  const kind = header(":message-type");
  const name = header(":event-type") ?? header(":exception-type") ?? header(":error-code") ?? "";
  return { bytes, name, isError: kind === "exception" || kind === "error", payload: body };
}

const codec = new EventStreamCodec(
  (bytes) => (typeof bytes === "string" ? bytes : Buffer.from(bytes).toString()),
  (text) => Buffer.from(text),
);
/** Lengths and checksums alone. */
const frameBytesMin = 16;
