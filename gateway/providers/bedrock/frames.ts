/** Frames of AWS's event streams: length, headers, payload, each with its checksum. */
import { EventStreamCodec } from "@smithy/eventstream-codec";
import { PendingBytes } from "../../../sdk/protocol/pending-bytes.ts";

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
  readonly #pending = new PendingBytes();

  constructor({ frameBytesMax }: { frameBytesMax: number }) {
    this.#frameBytesMax = frameBytesMax;
  }

  /** Whether a frame has begun that did not end. */
  get isCut(): boolean {
    return this.#pending.length > 0;
  }

  /** @throws Error when a frame grows past its bound, or its checksums are not right */
  push(chunk: Uint8Array): Frame[] {
    const bytes = this.#pending.push(chunk);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const frames: Frame[] = [];
    let start = 0;
    while (bytes.length - start >= 4) {
      const length = view.getUint32(start);
      if (length > this.#frameBytesMax || length < frameBytesMin) {
        throw new Error(`a frame of ${length} bytes is not accepted`);
      }
      if (bytes.length - start < length) break;
      frames.push(readFrame(bytes.subarray(start, start + length)));
      start += length;
    }
    this.#pending.drop(start);
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
