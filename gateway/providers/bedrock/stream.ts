/** Reads Bedrock's stream as it is relayed: frames pass unchanged, usage is found on the way. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import { type PassingStream, type Relayed, RelayedSoFar, type StreamLimits } from "../format.ts";
import { readExceptionFrame } from "./errors.ts";
import { type Frame, FrameReader } from "./frames.ts";
import { parseJson, readBedrockUsage } from "./response.ts";
import { converseEvent } from "./schema.ts";

export class ConverseStream implements PassingStream {
  begun = false;
  usage: ReadUsage | undefined;
  readonly relayed: Relayed;
  readonly #frames: FrameReader;
  readonly #charsMax: number;
  #text = "";
  #stopped = false;

  constructor({ frameBytesMax, relayedTextCharsMax }: StreamLimits) {
    this.#frames = new FrameReader({ frameBytesMax });
    this.#charsMax = relayedTextCharsMax;
    this.relayed = new RelayedSoFar(() => this.#text);
  }

  push(chunk: Uint8Array): StreamStep {
    let frames: Frame[];
    try {
      frames = this.#frames.push(chunk);
    } catch (cause) {
      return { pass: [], end: { error: broken("sent a frame that cannot be read", cause) } };
    }
    const pass: Uint8Array[] = [];
    for (const frame of frames) {
      if (frame.isError) return { pass, end: { error: readExceptionFrame(frame) } };
      this.#read(frame);
      pass.push(frame.bytes);
    }
    return { pass: pass.length > 1 ? [Buffer.concat(pass)] : pass };
  }

  close(): StreamStep {
    if (this.#stopped && !this.#frames.isCut) return { pass: [], end: {} };
    return { pass: [], end: { error: broken("ended its stream in the middle of the answer") } };
  }

  #read({ name, payload }: Frame): void {
    if (name !== "messageStart") this.begun = true;
    if (name === "messageStop") this.#stopped = true;
    const isText = name === "contentBlockDelta" && this.#text.length < this.#charsMax;
    if (!isText && name !== "metadata") return;
    const { delta, usage } = converseEvent.safeParse(parseJson(payload)).data ?? {};
    this.#text += delta?.text ?? delta?.toolUse?.input ?? delta?.reasoningContent?.text ?? "";
    this.usage = readBedrockUsage(usage) ?? this.usage;
  }
}

function broken(what: string, cause?: unknown): HubError {
  return new HubError("upstream_error", `The upstream ${what}.`, { cause });
}
