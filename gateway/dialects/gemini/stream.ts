/** Canonical events as the chunks of `streamGenerateContent`, each of them an answer by itself. */
import type { HubError } from "../../../sdk/protocol/errors.ts";
import type { AnswerEvent, FinishReason } from "../../canonical/answer.ts";
import type { Citation, OutputPart, ToolCallPart } from "../../canonical/request.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import {
  readArguments,
  toGeminiFinish,
  writeGeminiUsage,
  writeGrounding,
  writeLogprobs,
  writeOutputPart,
} from "./answer.ts";
import { toGeminiError } from "./errors.ts";
import type { Framing } from "./framing.ts";

type Choice = {
  text: string;
  citations: Citation[];
  /** Calls go out whole, so they wait for the rest of their arguments. */
  calls: ToolCallPart[];
  /** How many of them went out. */
  written: number;
  isBroken: boolean;
  finish: FinishReason | undefined;
};

/** Reasons to finish go out together with the usage, as the last chunk. */
export class GeminiWriter implements EventWriter {
  readonly #head: AnswerHead;
  readonly #framing: Framing;
  readonly #choices = new Map<number, Choice>();
  #names: { modelVersion: string; responseId: string };
  #usage: Record<string, unknown> | undefined;

  constructor(head: AnswerHead, framing: Framing) {
    this.#head = head;
    this.#framing = framing;
    this.#names = { modelVersion: head.model, responseId: head.id };
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    const chunks = this.#write(event);
    return chunks === "" ? undefined : Buffer.from(chunks);
  }

  end(error: HubError | undefined): Uint8Array {
    const { id } = this.#head;
    if (error) {
      const told = this.#framing.write(JSON.stringify(toGeminiError(error, id)));
      return Buffer.from(told + this.#framing.end());
    }
    if (this.#choices.size === 0) this.#choice(0);
    const open = [...this.#choices.keys()].map((index) => this.#calls(index)).join("");
    const candidates = [...this.#choices].map(([index, choice]) => ({
      content: { parts: [{ text: "" }], role: "model" },
      finishReason: toGeminiFinish(choice.finish ?? "stop", choice.isBroken),
      index,
      ...(choice.citations.length > 0 && {
        groundingMetadata: writeGrounding(choice.citations, choice.text),
      }),
    }));
    const usageMetadata = this.#usage;
    const last = { candidates, ...(usageMetadata && { usageMetadata }), ...this.#names };
    return Buffer.from(open + this.#framing.write(JSON.stringify(last)) + this.#framing.end());
  }

  #write(event: AnswerEvent): string {
    switch (event.type) {
      case "start":
        this.#names = {
          modelVersion: event.model ?? this.#head.model,
          responseId: event.id ?? this.#head.id,
        };
        return "";
      case "text": {
        this.#choice(event.choice).text += event.text;
        const { logprobs } = event;
        const more = logprobs && { logprobsResult: writeLogprobs(logprobs) };
        return this.#part({ type: "text", text: event.text }, event.choice, more);
      }
      case "refusal":
      case "reasoning":
        return this.#part({ type: event.type, text: event.text }, event.choice);
      case "reasoning_seal": {
        const { type: _, choice, ...seal } = event;
        return this.#part({ type: "reasoning", text: "", ...seal }, choice);
      }
      case "tool_call": {
        const { choice, call, type: _, ...named } = event;
        this.#choice(choice).calls[call] = { type: "tool_call", arguments: "", ...named };
        return "";
      }
      case "tool_arguments": {
        const call = this.#choice(event.choice).calls[event.call];
        if (call) call.arguments += event.text;
        return "";
      }
      case "citation":
        this.#choice(event.choice).citations.push(event.citation);
        return "";
      case "finish":
        this.#choice(event.choice).finish = event.reason;
        return this.#calls(event.choice);
      case "usage":
        this.#usage = writeGeminiUsage(event.usage.usage);
        return "";
      case "error":
      case "end":
        return "";
      default:
        return event satisfies never;
    }
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (!choice) {
      choice = {
        text: "",
        citations: [],
        calls: [],
        written: 0,
        isBroken: false,
        finish: undefined,
      };
      this.#choices.set(index, choice);
    }
    return choice;
  }

  #part(part: OutputPart, index: number, more: object | undefined = {}): string {
    return this.#chunk(writeOutputPart(part), index, more);
  }

  /** Those that did not go out yet. */
  #calls(index: number): string {
    const choice = this.#choice(index);
    const calls = choice.calls.slice(choice.written);
    choice.written = choice.calls.length;
    if (calls.some((call) => !readArguments(call))) choice.isBroken = true;
    return this.#chunk(calls.flatMap(writeOutputPart), index);
  }

  #chunk(parts: readonly object[], index: number, more: object = {}): string {
    this.#choice(index);
    if (parts.length === 0) return "";
    const candidates = [{ content: { parts, role: "model" }, index, ...more }];
    return this.#framing.write(JSON.stringify({ candidates, ...this.#names }));
  }
}
