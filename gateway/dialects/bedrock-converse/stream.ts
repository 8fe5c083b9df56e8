/** Canonical events as the frames of ConverseStream. */
import type { HubError } from "../../../sdk/protocol/errors.ts";
import type { AnswerEvent, FinishReason } from "../../canonical/answer.ts";
import { writeFrame } from "../../providers/bedrock/frames.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import { toStopReason, writeCitation, writeUsage } from "./answer.ts";
import { toExceptionFrame } from "./errors.ts";
import { type Seal, toClientSeal } from "./seal.ts";

type Fields = Record<string, unknown>;

/** Texts and thoughts are blocks that begin with their first piece; a call has a beginning of its own. */
export class ConverseWriter implements EventWriter {
  readonly #head: AnswerHead;
  #begun = false;
  #blocks = 0;
  /** The block that grows at the moment, calls excepted. */
  #open: { kind: "text" | "reasoning"; index: number } | undefined;
  #lastText: number | undefined;
  /** Calls' blocks, which stay open while others may still get arguments. */
  readonly #calls = new Map<number, { index: number; argued: boolean }>();
  #finish: FinishReason = "stop";
  #usage: Fields | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    const frames = this.#write(event);
    if (frames.length === 0) return undefined;
    return Buffer.concat([...this.#opening(), ...frames]);
  }

  end(error: HubError | undefined): Uint8Array {
    if (error) return toExceptionFrame(error);
    const metrics = { latencyMs: this.#head.nowMs() - this.#head.createdAtMs };
    return Buffer.concat([
      ...this.#opening(),
      ...this.#closeOpen(),
      ...this.#closeCalls(),
      frame("messageStop", { stopReason: toStopReason(this.#finish) }),
      frame("metadata", { ...(this.#usage && { usage: this.#usage }), metrics }),
    ]);
  }

  #write(event: AnswerEvent): Uint8Array[] {
    // Converse has one choice only.
    if ("choice" in event && event.choice > 0) return [];
    switch (event.type) {
      case "text":
      case "refusal":
        return this.#delta("text", { text: event.text });
      case "reasoning":
        return this.#delta("reasoning", { reasoningContent: { text: event.text } });
      case "reasoning_seal":
        return this.#seal(event);
      case "tool_call": {
        const closed = this.#closeOpen();
        const index = this.#blocks++;
        this.#calls.set(event.call, { index, argued: false });
        const start = { toolUse: { toolUseId: event.id, name: event.name } };
        return [...closed, frame("contentBlockStart", { contentBlockIndex: index, start })];
      }
      case "tool_arguments": {
        const call = this.#calls.get(event.call);
        if (!call || event.text === "") return [];
        call.argued = true;
        return [delta(call.index, { toolUse: { input: event.text } })];
      }
      case "citation": {
        const citation = writeCitation(event.citation);
        return this.#lastText === undefined ? [] : [delta(this.#lastText, { citation })];
      }
      case "finish":
        this.#finish = event.reason;
        return [];
      case "usage":
        this.#usage = writeUsage(event.usage.usage);
        return [];
      case "start":
      case "error":
      case "end":
        return [];
      default:
        return event satisfies never;
    }
  }

  #opening(): Uint8Array[] {
    if (this.#begun) return [];
    this.#begun = true;
    return [frame("messageStart", { role: "assistant" })];
  }

  #delta(kind: "text" | "reasoning", piece: Fields): Uint8Array[] {
    const closed = this.#open?.kind === kind ? [] : this.#closeOpen();
    this.#open ??= { kind, index: this.#blocks++ };
    if (kind === "text") this.#lastText = this.#open.index;
    return [...closed, delta(this.#open.index, piece)];
  }

  /** It is the last that is said of a thought. */
  #seal(seal: Seal): Uint8Array[] {
    const written = toClientSeal(seal);
    const redacts = written.redactedContent !== undefined;
    const before = redacts ? this.#closeOpen() : [];
    return [
      ...before,
      ...this.#delta("reasoning", { reasoningContent: written }),
      ...this.#closeOpen(),
    ];
  }

  #closeOpen(): Uint8Array[] {
    if (!this.#open) return [];
    const { index } = this.#open;
    this.#open = undefined;
    return [frame("contentBlockStop", { contentBlockIndex: index })];
  }

  /** Clients parse what they get: a call without arguments is one with an empty object. */
  #closeCalls(): Uint8Array[] {
    return [...this.#calls.values()].flatMap(({ index, argued }) => [
      ...(argued ? [] : [delta(index, { toolUse: { input: "{}" } })]),
      frame("contentBlockStop", { contentBlockIndex: index }),
    ]);
  }
}

function delta(contentBlockIndex: number, piece: Fields): Uint8Array {
  return frame("contentBlockDelta", { contentBlockIndex, delta: piece });
}

function frame(name: string, payload: Fields): Uint8Array {
  return writeFrame("event", name, payload);
}
