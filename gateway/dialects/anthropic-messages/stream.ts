/** Canonical events as the stream of one of Anthropic's messages. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { AnswerEvent, FinishReason } from "../../canonical/answer.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import {
  callBlock,
  callSealBlock,
  messageHead,
  sealedBlock,
  writeCitation,
  writeCounts,
  writeStop,
  writeUsage,
} from "./answer.ts";
import { anthropicError } from "./errors.ts";
import { JsonObjectEnd } from "./json-object-end.ts";
import { toClientSeal } from "./seal.ts";

type PartEvent = Extract<AnswerEvent, { choice: number }>;

/** The block that is being written. */
type OpenBlock =
  | { type: "text" | "thinking" }
  | { type: "tool_use"; call: number; input: JsonObjectEnd };

/**
 * Anthropic writes one block after the other, and clients close a call when its block stops. Others may write several
 * calls at once; so what comes between a call's beginning and the end of its input waits until that is whole.
 */
export class MessageWriter implements EventWriter {
  readonly #head: AnswerHead;
  #started = false;
  #index = 0;
  #open: OpenBlock | undefined;
  #waiting: PartEvent[] = [];
  #waitingChars = 0;
  #waitingCalls = 0;
  #finish: { reason: FinishReason; stopSequence?: string | undefined } = { reason: "stop" };
  #refusal: string | undefined;
  #usage: UsageVector | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    const frames = this.#write(event);
    return frames === "" ? undefined : Buffer.from(frames);
  }

  /** The usage comes after everything, and with it the reason. */
  end(error: HubError | undefined): Uint8Array {
    if (error) return Buffer.from(frame({ ...(anthropicError(error, this.#head.id) as Frame) }));
    let frames = this.#start(undefined, undefined) + this.#close();
    while (this.#waiting.length > 0) frames += this.#takeWaiting() + this.#close();
    const { reason, stopSequence } = this.#finish;
    const delta = {
      ...writeStop(reason, { stopSequence, refusal: this.#refusal }),
      container: null,
    };
    frames += frame({ type: "message_delta", delta, usage: writeCounts(this.#usage) });
    return Buffer.from(frames + messageStop);
  }

  #write(event: AnswerEvent): string {
    switch (event.type) {
      case "start":
        return this.#start(event.id, event.model);
      case "usage":
        this.#usage = event.usage.usage;
        return "";
      case "error":
      case "end":
        return "";
      case "finish":
        this.#finish = event.choice === 0 ? event : this.#finish;
        return "";
      default:
        // There is no place for a second choice, and no request of this dialect asks for one.
        return event.choice === 0 ? this.#start(undefined, undefined) + this.#take(event) : "";
    }
  }

  #start(id: string | undefined, model: string | undefined): string {
    if (this.#started) return "";
    this.#started = true;
    const message = {
      ...messageHead({ id, model }, this.#head),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      usage: writeUsage(undefined),
    };
    return frame({ type: "message_start", message });
  }

  #take(event: PartEvent): string {
    const open = this.#open;
    if (open?.type === "tool_use" && !open.input.reached) {
      if (event.type !== "tool_arguments" || event.call !== open.call) return this.#wait(event);
    }
    const written = this.#writePart(event);
    return this.#isBusy() ? written : written + this.#takeWaiting();
  }

  #isBusy(): boolean {
    return this.#open?.type === "tool_use" && !this.#open.input.reached;
  }

  #wait(event: PartEvent): string {
    this.#waiting.push(event);
    this.#waitingChars += "text" in event ? event.text.length : 64;
    // Each call that ends has all that waits looked through again.
    if (event.type === "tool_call") this.#waitingCalls++;
    if (this.#waitingChars > waitingCharsMax || this.#waitingCalls > waitingCallsMax) {
      throw new HubError("upstream_error", "The upstream wrote too many tool calls at once.");
    }
    return "";
  }

  #takeWaiting(): string {
    const waiting = this.#waiting;
    if (waiting.length === 0) return "";
    this.#waiting = [];
    this.#waitingChars = 0;
    this.#waitingCalls = 0;
    return waiting.map((event) => this.#take(event)).join("");
  }

  #writePart(event: PartEvent): string {
    switch (event.type) {
      case "text":
        return event.text === "" ? "" : this.#text(event.text);
      case "refusal":
        this.#refusal = (this.#refusal ?? "") + event.text;
        return this.#text(event.text);
      case "reasoning": {
        const opening = this.#openAs({ type: "thinking" }, emptyThinking);
        return opening + this.#delta({ type: "thinking_delta", thinking: event.text });
      }
      case "reasoning_seal":
        return this.#seal(event);
      case "tool_call": {
        const seal =
          event.signature === undefined ? "" : this.#whole(callSealBlock(event.signature));
        const input = new JsonObjectEnd();
        return (
          seal + this.#openNew({ type: "tool_use", call: event.call, input }, callBlock(event))
        );
      }
      case "tool_arguments": {
        const open = this.#open;
        // What follows a whole input is blank, or belongs to nothing.
        if (open?.type !== "tool_use" || open.call !== event.call || open.input.reached) return "";
        open.input.read(event.text);
        return this.#delta({ type: "input_json_delta", partial_json: event.text });
      }
      case "citation":
        if (this.#open?.type !== "text") return "";
        return this.#delta({ type: "citations_delta", citation: writeCitation(event.citation) });
      case "finish":
        return "";
      default:
        return event satisfies never;
    }
  }

  #text(text: string): string {
    return this.#openAs({ type: "text" }, emptyText) + this.#delta({ type: "text_delta", text });
  }

  #seal({ signature, encrypted }: { signature?: string; encrypted?: string }): string {
    if (encrypted === undefined && signature !== undefined && this.#open?.type === "thinking") {
      const seal = toClientSeal(signature);
      return this.#delta({ type: "signature_delta", signature: seal }) + this.#close();
    }
    const block = sealedBlock({ signature, encrypted });
    return block ? this.#whole(block) : "";
  }

  /** A block that is whole when it begins. */
  #whole(block: object): string {
    return this.#openNew({ type: "text" }, block) + this.#close();
  }

  #openAs(open: OpenBlock & { type: "text" | "thinking" }, block: object): string {
    return this.#open?.type === open.type ? "" : this.#openNew(open, block);
  }

  #openNew(open: OpenBlock, block: object): string {
    const closing = this.#close();
    this.#open = open;
    return (
      closing + frame({ type: "content_block_start", index: this.#index, content_block: block })
    );
  }

  #delta(delta: object): string {
    return frame({ type: "content_block_delta", index: this.#index, delta });
  }

  #close(): string {
    if (!this.#open) return "";
    this.#open = undefined;
    return frame({ type: "content_block_stop", index: this.#index++ });
  }
}

type Frame = { type: string; [field: string]: unknown };

/** Clients go by the event's name, and read the type in it. JSON has no line ends, so that one line is enough. */
function frame(data: Frame): string {
  return `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** A stream's last frame, which is given only when the request is settled. */
export const messageStop = frame({ type: "message_stop" });
/** Keeps a silent stream open. */
export const ping = frame({ type: "ping" });

export function errorFrame(error: HubError): string {
  return frame(anthropicError(error) as Frame);
}

const emptyText = { type: "text", text: "" };
const emptyThinking = { type: "thinking", thinking: "", signature: "" };
/** Text of calls that wait for another one's end. */
const waitingCharsMax = 4 << 20;
/** More than any model makes at once. */
const waitingCallsMax = 128;
