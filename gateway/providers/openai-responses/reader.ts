/** Reads responses into canonical events. */
import { z } from "zod";
import type { ContentLogprob } from "../../../sdk/protocol/chat.ts";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { AnswerEvent, EventReader, FinishReason } from "../../canonical/answer.ts";
import { markSeal } from "../../canonical/seal.ts";
import { type ReadUsage, readUsage } from "../../ledger/usage.ts";
import { readErrorFrame } from "../openai/errors.ts";
import { type OutputItem, type responseObject, streamEvent } from "./schema.ts";

type ResponseObject = z.infer<typeof responseObject>;

/**
 * The events of a whole response.
 * @throws HubError `upstream_error` when it failed
 */
export function readResponseEvents(response: ResponseObject): AnswerEvent[] {
  if (response.status === "failed") throw failure(response);
  let calls = 0;
  const events: AnswerEvent[] = [startOf(response)];
  for (const item of response.output) {
    const isCall = item.type === "function_call" || item.type === "custom_tool_call";
    for (const event of eventsOfItem(item, calls)) events.push(event);
    if (isCall) calls++;
  }
  return [...events, ...endOf(response, calls > 0)];
}

/** OpenAI's counts are inclusive; `undefined` when they are not told. */
export function usageOf({ usage }: ResponseObject): ReadUsage | undefined {
  if (!usage) return undefined;
  const { input_tokens, output_tokens, total_tokens } = usage;
  return readUsage({
    prompt_tokens: input_tokens,
    completion_tokens: output_tokens,
    total_tokens: total_tokens ?? input_tokens + output_tokens,
    prompt_tokens_details: usage.input_tokens_details,
    completion_tokens_details: usage.output_tokens_details,
  });
}

/** A stream of a response's events. */
export class ResponsesReader implements EventReader {
  readonly #parser: SseParser;
  /** Calls by the place of their item. */
  readonly #calls = new Map<number, number>();
  #ended = false;

  constructor({ frameBytesMax }: { frameBytesMax: number }) {
    this.#parser = new SseParser({ frameBytesMax });
  }

  push(chunk: Uint8Array): AnswerEvent[] {
    return this.#parser.push(chunk).flatMap((event) => this.#read(event.data));
  }

  close(): AnswerEvent[] {
    const rest = this.#parser.end().flatMap((event) => this.#read(event.data));
    if (this.#ended) return rest;
    const message = "The upstream ended its stream in the middle of the answer.";
    return [...rest, { type: "error", error: new HubError("upstream_error", message) }];
  }

  #read(data: string): AnswerEvent[] {
    if (this.#ended) return [];
    const event = streamEvent.safeParse(parseJson(data)).data;
    if (!event) return [];
    const choice = 0;
    switch (event.type) {
      case "response.created":
        return [startOf(event.response)];
      case "response.output_text.delta": {
        return [{ type: "text", choice, text: event.delta, ...toldOf(event.logprobs) }];
      }
      case "response.refusal.delta":
        return [{ type: "refusal", choice, text: event.delta }];
      case "response.reasoning_summary_text.delta":
      case "response.reasoning_text.delta":
        return [{ type: "reasoning", choice, text: event.delta }];
      case "response.output_text.annotation.added":
        return citationOf(event.annotation);
      case "response.output_item.added":
        return this.#begin(event.item, event.output_index);
      case "response.function_call_arguments.delta":
      case "response.custom_tool_call_input.delta": {
        const call = this.#calls.get(event.output_index);
        return call === undefined
          ? []
          : [{ type: "tool_arguments", choice, call, text: event.delta }];
      }
      case "response.output_item.done":
        return event.item.type === "reasoning" ? sealOf(event.item) : [];
      case "response.completed":
      case "response.incomplete":
        this.#ended = true;
        return [...endOf(event.response, this.#calls.size > 0), { type: "end" }];
      case "response.failed":
        this.#ended = true;
        return [{ type: "error", error: failure(event.response) }];
      case "error": {
        this.#ended = true;
        const error = readErrorFrame({ error: event.error ?? { message: event.message } });
        return error ? [{ type: "error", error }] : [];
      }
      default:
        return event satisfies never;
    }
  }

  #begin(item: OutputItem, index: number): AnswerEvent[] {
    if (item.type !== "function_call" && item.type !== "custom_tool_call") return [];
    const call = this.#calls.size;
    this.#calls.set(index, call);
    return eventsOfItem(item, call);
  }
}

function eventsOfItem(item: OutputItem, call: number): AnswerEvent[] {
  const choice = 0;
  switch (item.type) {
    case "message":
      return item.content.flatMap((part): AnswerEvent[] => {
        if (part.type === "refusal") return [{ type: "refusal", choice, text: part.refusal }];
        if (part.type !== "output_text") return [];
        const cited = (part.annotations ?? []).flatMap(citationOf);
        return [{ type: "text", choice, text: part.text, ...toldOf(part.logprobs) }, ...cited];
      });
    case "function_call":
    case "custom_tool_call": {
      const custom = item.type === "custom_tool_call";
      const { call_id: id, name } = item;
      const text = item.type === "custom_tool_call" ? item.input : item.arguments;
      return [
        { type: "tool_call", choice, call, id, name, ...(custom && { custom }) },
        ...(text ? [{ type: "tool_arguments", choice, call, text } as const] : []),
      ];
    }
    case "reasoning": {
      const text = [...(item.content ?? []), ...item.summary].map((part) => part.text).join("\n");
      return [...(text ? [{ type: "reasoning", choice, text } as const] : []), ...sealOf(item)];
    }
    default:
      // What OpenAI's own tools did has no place in other dialects.
      return [];
  }
}

/** Where none are asked for, the list is empty. */
function toldOf(logprobs: ContentLogprob[] | null | undefined): { logprobs?: ContentLogprob[] } {
  return logprobs && logprobs.length > 0 ? { logprobs } : {};
}

function sealOf({
  encrypted_content,
  id,
}: Extract<OutputItem, { type: "reasoning" }>): AnswerEvent[] {
  if (encrypted_content == null) return [];
  const seal = { encrypted: markSeal("openai", encrypted_content), ...(id && { id }) };
  return [{ type: "reasoning_seal", choice: 0, ...seal }];
}

function citationOf(annotation: unknown): AnswerEvent[] {
  const known = urlCitation.safeParse(annotation).data;
  if (!known) return [];
  const { url, title, start_index: start, end_index: end } = known;
  const place = { ...(start != null && { start }), ...(end != null && { end }) };
  const citation = { url, ...(title != null && { title }), ...place, source: annotation };
  return [{ type: "citation", choice: 0, citation }];
}

function startOf({ id, model }: ResponseObject): AnswerEvent {
  return { type: "start", ...(id && { id }), ...(model && { model }) };
}

function endOf(response: ResponseObject, called: boolean): AnswerEvent[] {
  const usage = usageOf(response);
  return [
    { type: "finish", choice: 0, reason: finishOf(response, called) },
    ...(usage ? [{ type: "usage", usage } as const] : []),
  ];
}

function finishOf({ status, incomplete_details }: ResponseObject, called: boolean): FinishReason {
  if (status !== "incomplete") return called ? "tool_calls" : "stop";
  return incomplete_details?.reason === "content_filter" ? "content_filter" : "length";
}

function failure({ error }: ResponseObject): HubError {
  const message = error?.message ?? "no message";
  const told = readErrorFrame({ error: { message, code: error?.code } });
  return told ?? new HubError("upstream_error", "The upstream's response failed.");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const urlCitation = z.object({
  type: z.literal("url_citation"),
  url: z.string(),
  title: z.string().nullish(),
  start_index: z.int().nullish(),
  end_index: z.int().nullish(),
});
