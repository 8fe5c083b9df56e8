/** A canonical answer as a text completion: what was said, and nothing of what was thought for it. */
import { type HubError, toErrorBody } from "../../../sdk/protocol/errors.ts";
import { formatSse, sseDone } from "../../../sdk/protocol/sse.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { Answer, AnswerChoice, AnswerEvent, FinishReason } from "../../canonical/answer.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import { writeChatUsage } from "../openai-chat/answer.ts";

export function writeCompletion(answer: Answer, head: AnswerHead): unknown {
  return {
    ...headOf(head, answer),
    choices: answer.choices.map(({ parts, finish }: AnswerChoice, index) => ({
      text: parts.map((part) => (isSaid(part) ? part.text : "")).join(""),
      index,
      logprobs: null,
      finish_reason: toFinish(finish),
    })),
    ...(answer.usage && { usage: writeChatUsage(answer.usage.usage) }),
  };
}

/** Chunks are whole objects of the same name, each with a further piece. */
export class CompletionWriter implements EventWriter {
  readonly #head: AnswerHead;
  #told: ReturnType<typeof headOf>;
  readonly #finished = new Map<number, boolean>();
  #usage: UsageVector | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
    this.#told = headOf(head, {});
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    switch (event.type) {
      case "start":
        this.#told = headOf(this.#head, event);
        return undefined;
      case "text":
      case "refusal":
        if (!this.#finished.has(event.choice)) this.#finished.set(event.choice, false);
        return Buffer.from(this.#chunk(event.choice, event.text, null));
      case "finish":
        return Buffer.from(this.#finish(event.choice, event.reason));
      case "usage":
        this.#usage = event.usage.usage;
        return undefined;
      default:
        // Thoughts, calls and what the text rests on have no place.
        return undefined;
    }
  }

  end(error: HubError | undefined): Uint8Array {
    if (error) return Buffer.from(formatSse(JSON.stringify(toErrorBody(error))));
    let frames = "";
    for (const choice of this.#finished.keys()) frames += this.#finish(choice, "stop");
    if (this.#head.wantsUsage && this.#usage) {
      const usage = writeChatUsage(this.#usage);
      frames += formatSse(JSON.stringify({ ...this.#told, choices: [], usage }));
    }
    return Buffer.from(frames + sseDone);
  }

  #finish(choice: number, reason: FinishReason): string {
    if (this.#finished.get(choice)) return "";
    this.#finished.set(choice, true);
    return this.#chunk(choice, "", toFinish(reason));
  }

  #chunk(index: number, text: string, finish_reason: string | null): string {
    const choices = [{ text, index, logprobs: null, finish_reason }];
    const usage = this.#head.wantsUsage ? { usage: null } : {};
    return formatSse(JSON.stringify({ ...this.#told, choices, ...usage }));
  }
}

/** Clients log and match the prefix. */
function headOf(
  head: AnswerHead,
  { id, model }: { id?: string | undefined; model?: string | undefined },
) {
  const own = (id ?? head.id).replace(/^chatcmpl-/, "");
  return {
    id: own.startsWith("cmpl-") ? own : `cmpl-${own}`,
    object: "text_completion",
    created: Math.floor(head.createdAtMs / 1000),
    model: model ?? head.model,
  };
}

function isSaid<P extends { type: string }>(part: P): part is P & { type: "text" | "refusal" } {
  return part.type === "text" || part.type === "refusal";
}

function toFinish(reason: FinishReason): string {
  if (reason === "length") return reason;
  return reason === "content_filter" || reason === "refusal" ? "content_filter" : "stop";
}
