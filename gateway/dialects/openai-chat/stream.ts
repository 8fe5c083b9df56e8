/** Canonical events as the chunks of a chat completion. */
import { type HubError, toErrorBody } from "../../../sdk/protocol/errors.ts";
import { formatSse, sseDone } from "../../../sdk/protocol/sse.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { AnswerEvent } from "../../canonical/answer.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import { writeAnnotation } from "./annotations.ts";
import { toChatFinish, toChatId, writeChatUsage } from "./answer.ts";
import { writeExtraContent } from "./extra-content.ts";
import { isSealed, type ReasoningDetail, writeDetail } from "./reasoning-details.ts";

type Choice = {
  /** Whether its role was told. */
  begun: boolean;
  finished: boolean;
  calls: Map<number, { custom: boolean; argued: boolean }>;
  textLength: number;
  /**
   * What is being thought, and the thoughts that were sealed. They are told once more, all at once and last: SDKs of some
   * languages keep only the last list that they were told, others add lists up.
   */
  thought: string;
  details: ReasoningDetail[];
};

/**
 * What SDKs insist on: one id in all chunks, the role once and first, names and ids of calls once, a reason to
 * finish for each choice, the usage last and only where it was asked for.
 */
export class ChatWriter implements EventWriter {
  readonly #head: AnswerHead;
  /** What all chunks have before and after their choice, written once. */
  #prefix = "";
  readonly #suffix: string;
  readonly #choices = new Map<number, Choice>();
  #usage: UsageVector | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
    this.#suffix = `]${head.wantsUsage ? ',"usage":null' : ""}}\n\n`;
    this.#start(undefined, undefined);
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    const frames = this.#write(event);
    return frames === "" ? undefined : Buffer.from(frames);
  }

  end(error: HubError | undefined): Uint8Array {
    if (error) return Buffer.from(formatSse(JSON.stringify(toErrorBody(error))));
    let frames = "";
    for (const index of this.#choices.keys()) frames += this.#finish(index, "stop");
    if (this.#head.wantsUsage && this.#usage) {
      const usage = JSON.stringify(writeChatUsage(this.#usage));
      frames += `${this.#prefix}],"usage":${usage}}\n\n`;
    }
    return Buffer.from(frames + sseDone);
  }

  #write(event: AnswerEvent): string {
    switch (event.type) {
      case "start":
        this.#start(event.id, event.model);
        return "";
      case "text": {
        const { choice, text, logprobs } = event;
        const told = logprobs && JSON.stringify({ content: logprobs, refusal: null });
        this.#choice(choice).textLength += text.length;
        return this.#delta(choice, `{"content":${JSON.stringify(text)}}`, told);
      }
      case "refusal":
        return this.#delta(event.choice, `{"refusal":${JSON.stringify(event.text)}}`);
      case "reasoning": {
        // Clients read one or the other.
        const text = JSON.stringify(event.text);
        this.#choice(event.choice).thought += event.text;
        return this.#delta(event.choice, `{"reasoning_content":${text},"reasoning":${text}}`);
      }
      case "tool_call": {
        const { choice, call: index, id, name, custom = false, signature } = event;
        this.#choice(choice).calls.set(index, { custom, argued: false });
        const call = custom
          ? { index, id, type: "custom", custom: { name, input: "" } }
          : {
              index,
              id,
              type: "function",
              function: { name, arguments: "" },
              ...writeExtraContent(signature),
            };
        return this.#delta(choice, `{"tool_calls":[${JSON.stringify(call)}]}`);
      }
      case "tool_arguments":
        return event.text === "" ? "" : this.#arguments(event.choice, event.call, event.text);
      case "finish":
        return this.#finish(event.choice, toChatFinish(event.reason));
      case "usage":
        this.#usage = event.usage.usage;
        return "";
      case "reasoning_seal":
        return this.#seal(event);
      case "citation": {
        const { textLength } = this.#choice(event.choice);
        const annotation = JSON.stringify(writeAnnotation(event.citation, textLength));
        return this.#delta(event.choice, `{"annotations":[${annotation}]}`);
      }
      case "error":
      case "end":
        return "";
      default:
        return event satisfies never;
    }
  }

  #start(id: string | undefined, model: string | undefined): void {
    const head = {
      id: toChatId(id, this.#head),
      object: "chat.completion.chunk",
      created: Math.floor(this.#head.createdAtMs / 1000),
      model: model ?? this.#head.model,
    };
    this.#prefix = `data: ${JSON.stringify(head).slice(0, -1)},"choices":[`;
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (!choice) {
      const calls: Choice["calls"] = new Map();
      choice = { begun: false, finished: false, calls, textLength: 0, thought: "", details: [] };
      this.#choices.set(index, choice);
    }
    return choice;
  }

  #delta(index: number, delta: string, logprobs?: string): string {
    return this.#opening(index) + this.#chunk(index, { delta, logprobs });
  }

  #seal({
    choice: index,
    signature,
    encrypted,
    id,
  }: Extract<AnswerEvent, { type: "reasoning_seal" }>): string {
    const choice = this.#choice(index);
    const seal = {
      ...(signature !== undefined && { signature }),
      ...(encrypted !== undefined && { encrypted }),
      ...(id !== undefined && { id }),
    };
    if (!isSealed(seal)) return "";
    choice.details.push(
      writeDetail({ type: "reasoning", text: choice.thought, ...seal }, choice.details.length),
    );
    choice.thought = "";
    return "";
  }

  /** Choices begin in their order: Python's client puts them into a list as they come. */
  #opening(index: number): string {
    const choice = this.#choice(index);
    if (choice.begun) return "";
    choice.begun = true;
    const before = index === 0 ? "" : this.#opening(index - 1);
    return (
      before + this.#chunk(index, { delta: '{"role":"assistant","content":"","refusal":null}' })
    );
  }

  #arguments(choice: number, index: number, text: string): string {
    const call = this.#choice(choice).calls.get(index);
    if (call) call.argued = true;
    const piece = JSON.stringify(text);
    const field = call?.custom
      ? `"custom":{"input":${piece}}`
      : `"function":{"arguments":${piece}}`;
    return this.#delta(choice, `{"tool_calls":[{"index":${index},${field}}]}`);
  }

  #finish(index: number, reason: string): string {
    const choice = this.#choice(index);
    if (choice.finished) return "";
    choice.finished = true;
    let frames = this.#opening(index);
    // Clients parse what they get: a call without arguments is one with an empty object.
    for (const [call, { argued, custom }] of choice.calls) {
      if (!argued && !custom) frames += this.#arguments(index, call, "{}");
    }
    if (choice.details.length > 0) {
      frames += this.#delta(index, `{"reasoning_details":${JSON.stringify(choice.details)}}`);
    }
    return frames + this.#chunk(index, { delta: "{}", finish: `"${reason}"` });
  }

  #chunk(
    index: number,
    {
      delta,
      finish = "null",
      logprobs = "null",
    }: { delta: string; finish?: string; logprobs?: string | undefined },
  ): string {
    return `${this.#prefix}{"index":${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finish}}${this.#suffix}`;
  }
}
