/** Streams of OpenAI's older completions as events, for those whose words are looked at on their way. */
import { z } from "zod";
import { HubError, toErrorBody } from "../../../sdk/protocol/errors.ts";
import { formatSse, type SseEvent, SseParser, sseDone } from "../../../sdk/protocol/sse.ts";
import type { AnswerEvent, EventReader } from "../../canonical/answer.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import { readErrorFrame } from "../../providers/openai/errors.ts";
import { readReportedUsage } from "../../providers/openai/response.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import { writeChatUsage } from "../openai-chat/answer.ts";

/** The events of a whole answer. */
export function readCompletionEvents(bytes: Uint8Array): AnswerEvent[] {
  const json: unknown = JSON.parse(Buffer.from(bytes).toString());
  return [...eventsOf(completionChunk.parse(json)), { type: "end" }];
}

export class CompletionsReader implements EventReader {
  readonly #parser: SseParser;
  #begun = false;
  #finished = false;

  constructor({ frameBytesMax }: { frameBytesMax: number }) {
    this.#parser = new SseParser({ frameBytesMax });
  }

  push(chunk: Uint8Array): AnswerEvent[] {
    return this.#parser.push(chunk).flatMap((event) => this.#read(event));
  }

  close(): AnswerEvent[] {
    const last = this.#parser.end().flatMap((event) => this.#read(event));
    if (last.some(({ type }) => type === "end" || type === "error")) return last;
    return [...last, this.#finished ? { type: "end" } : broken("ended its stream too early")];
  }

  #read({ data }: SseEvent): AnswerEvent[] {
    if (data === "[DONE]") return [{ type: "end" }];
    let json: unknown;
    try {
      json = JSON.parse(data);
    } catch {
      return [broken("sent an event that is no JSON")];
    }
    const error = readErrorFrame(json);
    if (error) return [{ type: "error", error }];
    const { success, data: chunk } = completionChunk.safeParse(json);
    if (!success) return [broken("sent an event that is no completion")];
    const events: AnswerEvent[] = [];
    if (!this.#begun)
      events.push({
        type: "start",
        ...(chunk.id && { id: chunk.id }),
        ...(chunk.model && { model: chunk.model }),
      });
    this.#begun = true;
    const told = eventsOf(chunk);
    this.#finished ||= told.some(({ type }) => type === "finish");
    return [...events, ...told];
  }
}

function eventsOf({ choices, usage: reported }: z.infer<typeof completionChunk>): AnswerEvent[] {
  const events: AnswerEvent[] = [];
  for (const { index, text, finish_reason: finish } of choices) {
    const choice = index ?? 0;
    if (text) events.push({ type: "text", choice, text });
    if (finish) events.push({ type: "finish", choice, reason: finishes[finish] ?? "stop" });
  }
  const usage = reported == null ? undefined : readReportedUsage(reported);
  if (usage) events.push({ type: "usage", usage });
  return events;
}

export class CompletionsWriter implements EventWriter {
  readonly #head: AnswerHead;
  #told: { id: string; model: string };
  #usage: ReadUsage["usage"] | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
    this.#told = { id: `cmpl-${head.id}`, model: head.model };
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    switch (event.type) {
      case "start":
        this.#told = { id: event.id ?? this.#told.id, model: event.model ?? this.#told.model };
        return undefined;
      case "text":
        return this.#chunk([
          { index: event.choice, text: event.text, logprobs: null, finish_reason: null },
        ]);
      case "finish": {
        const finish =
          event.reason === "length" || event.reason === "content_filter" ? event.reason : "stop";
        return this.#chunk([
          { index: event.choice, text: "", logprobs: null, finish_reason: finish },
        ]);
      }
      case "usage":
        this.#usage = event.usage.usage;
        return undefined;
      default:
        return undefined;
    }
  }

  end(error: HubError | undefined): Uint8Array {
    if (error) return Buffer.from(formatSse(JSON.stringify(toErrorBody(error))));
    const usage = this.#head.wantsUsage && this.#usage;
    const last = usage ? this.#chunk([], writeChatUsage(usage)) : Buffer.alloc(0);
    return Buffer.concat([last, Buffer.from(sseDone)]);
  }

  #chunk(choices: object[], usage?: object): Uint8Array {
    const created = Math.floor(this.#head.createdAtMs / 1000);
    const { id, model } = this.#told;
    const chunk = {
      id,
      object: "text_completion",
      created,
      model,
      choices,
      ...(usage && { usage }),
    };
    return Buffer.from(formatSse(JSON.stringify(chunk)));
  }
}

function broken(what: string): AnswerEvent {
  return { type: "error", error: new HubError("upstream_error", `The upstream ${what}.`) };
}

const finishes: { [reason: string]: "length" | "content_filter" } = {
  length: "length",
  content_filter: "content_filter",
};

const completionChunk = z.object({
  id: z.string().nullish(),
  model: z.string().nullish(),
  choices: z.array(
    z.object({
      index: z.int().min(0).max(127).nullish(),
      text: z.string().nullish(),
      finish_reason: z.string().nullish(),
    }),
  ),
  usage: z.unknown().optional(),
});
