/** Reads Cohere's answers into canonical events. */
import type { ContentLogprob } from "../../../sdk/protocol/chat.ts";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { AnswerEvent, EventReader, FinishReason } from "../../canonical/answer.ts";
import type { Citation } from "../../canonical/request.ts";
import { markSeal } from "../../canonical/seal.ts";
import type { StreamLimits } from "../format.ts";
import { safeWords } from "../upstream-words.ts";
import { readCohereUsage } from "./response.ts";
import {
  type CohereAnswer,
  type CohereCitation,
  type CohereEvent,
  type CohereLogprobs,
  cohereError,
  cohereEvent,
} from "./schema.ts";

/** The events of a whole answer. */
export function readCohereEvents(answer: CohereAnswer): AnswerEvent[] {
  const { id, message, finish_reason, usage, logprobs } = answer;
  const content = message.content ?? [];
  const texts = new Texts(Number.POSITIVE_INFINITY);
  let told = logprobs?.flatMap(toLogprob);
  const events: AnswerEvent[] = [start(id)];
  if (message.tool_plan) events.push(thought(message.tool_plan), seal("plan"));
  for (const [index, { text, thinking }] of content.entries()) {
    if (thinking) events.push(thought(thinking), seal("thinking"));
    if (!text) continue;
    texts.add(index, text);
    events.push({ type: "text", choice: 0, text, ...(told?.length && { logprobs: told }) });
    told = undefined;
  }
  for (const citation of message.citations ?? []) events.push(...readCitation(citation, texts));
  for (const [call, { id, function: named }] of (message.tool_calls ?? []).entries()) {
    events.push(beginCall(call, id, named?.name));
    events.push({ type: "tool_arguments", choice: 0, call, text: named?.arguments || "{}" });
  }
  return [...events, ...readEnd({ finish_reason, usage })];
}

export class CohereReader implements EventReader {
  readonly #parser: SseParser;
  readonly #texts: Texts;
  /** What is being thought, to be sealed by its kind when something else begins. */
  #thinks: "plan" | "thinking" | undefined;
  #calls = 0;
  #ended = false;

  constructor({ frameBytesMax, relayedTextCharsMax }: StreamLimits) {
    this.#parser = new SseParser({ frameBytesMax });
    this.#texts = new Texts(relayedTextCharsMax);
  }

  push(chunk: Uint8Array): AnswerEvent[] {
    return this.#parser.push(chunk).flatMap(({ data }) => this.#read(data));
  }

  close(): AnswerEvent[] {
    const rest = this.#parser.end().flatMap(({ data }) => this.#read(data));
    if (this.#ended) return rest;
    const message = "The upstream ended its stream in the middle of the answer.";
    return [...rest, { type: "error", error: new HubError("upstream_error", message) }];
  }

  #read(data: string): AnswerEvent[] {
    if (this.#ended) return [];
    const json = parseJson(data);
    const event = cohereEvent.safeParse(json).data;
    if (event) return this.#readEvent(event);
    const told = cohereError.safeParse(json).data?.message;
    if (told === undefined) return [];
    this.#ended = true;
    return [{ type: "error", error: brokenOff(told) }];
  }

  #readEvent(event: CohereEvent): AnswerEvent[] {
    switch (event.type) {
      case "message-start":
        return [start(event.id)];
      case "content-start":
      case "content-delta": {
        const { text, thinking } = event.delta?.message?.content ?? {};
        const logprobs = event.type === "content-delta" && event.logprobs;
        if (thinking) return this.#think("thinking", thinking);
        if (!text) return [];
        this.#texts.add(event.index ?? 0, text);
        const told = logprobs ? toLogprob(logprobs) : [];
        const said = { type: "text", choice: 0, text, ...(told.length && { logprobs: told }) };
        return [...this.#seal(), said as AnswerEvent];
      }
      case "content-end":
        return this.#seal();
      case "tool-plan-delta": {
        const plan = event.delta?.message?.tool_plan;
        return plan ? this.#think("plan", plan) : [];
      }
      case "tool-call-start": {
        const { id, function: named } = event.delta?.message?.tool_calls ?? {};
        const begun = beginCall(this.#calls++, id, named?.name);
        return [...this.#seal(), begun, ...this.#argue(named?.arguments)];
      }
      case "tool-call-delta":
        return this.#argue(event.delta?.message?.tool_calls?.function?.arguments);
      case "tool-call-end":
      case "citation-end":
        return [];
      case "citation-start": {
        const cited = event.delta?.message?.citations;
        return cited ? readCitation(cited, this.#texts) : [];
      }
      case "message-end": {
        this.#ended = true;
        const { error, ...end } = event.delta ?? {};
        if (error) return [{ type: "error", error: brokenOff(error) }];
        const events = [...this.#seal(), ...readEnd(end)];
        return events.at(-1)?.type === "error" ? events : [...events, { type: "end" }];
      }
      default:
        return event satisfies never;
    }
  }

  #think(kind: "plan" | "thinking", text: string): AnswerEvent[] {
    const sealed = this.#thinks === kind ? [] : this.#seal();
    this.#thinks = kind;
    return [...sealed, thought(text)];
  }

  #seal(): AnswerEvent[] {
    const kind = this.#thinks;
    this.#thinks = undefined;
    return kind ? [seal(kind)] : [];
  }

  #argue(text: string | null | undefined): AnswerEvent[] {
    return text ? [{ type: "tool_arguments", choice: 0, call: this.#calls - 1, text }] : [];
  }
}

/** Texts of the answer by their blocks, in which Cohere counts characters, and we units of UTF-16 of the whole. */
class Texts {
  readonly #blocks = new Map<number, string>();
  #charsLeft: number;

  constructor(charsMax: number) {
    this.#charsLeft = charsMax;
  }

  add(block: number, text: string): void {
    const kept = text.slice(0, Math.max(0, this.#charsLeft));
    this.#charsLeft -= kept.length;
    this.#blocks.set(block, (this.#blocks.get(block) ?? "") + kept);
  }

  unitsAt(block: number | null | undefined, chars: number): number {
    const blocks = [...this.#blocks].sort(([one], [other]) => one - other);
    const at = blocks.findIndex(([index]) => index === block);
    const before = blocks.slice(0, Math.max(0, at)).map(([, text]) => text.length);
    const text = blocks[Math.max(0, at)]?.[1] ?? "";
    const units = [...text].slice(0, chars).join("").length;
    return before.reduce((sum, length) => sum + length, 0) + units;
  }
}

function start(id: string | null | undefined): AnswerEvent {
  return { type: "start", ...(id && { id }) };
}

function thought(text: string): AnswerEvent {
  return { type: "reasoning", choice: 0, text };
}

/** Cohere signs nothing. The seal says whose thought it was and which of the two kinds, to give it back so. */
function seal(kind: "plan" | "thinking"): AnswerEvent {
  return { type: "reasoning_seal", choice: 0, signature: markSeal("cohere", kind) };
}

function beginCall(
  call: number,
  id: string | null | undefined,
  name: string | null | undefined,
): AnswerEvent {
  return { type: "tool_call", choice: 0, call, id: id || `call_${call}`, name: name ?? "" };
}

/** A citation for each of its sources. What was thought or planned is cited, too, and is none of the answer's text. */
function readCitation(cited: CohereCitation, texts: Texts): AnswerEvent[] {
  const { start, end, content_index, sources, type } = cited;
  if (type === "PLAN" || type === "THINKING_CONTENT") return [];
  const place = {
    ...(start != null && { start: texts.unitsAt(content_index, start) }),
    ...(end != null && { end: texts.unitsAt(content_index, end) }),
  };
  return (sources ?? []).map((source) => {
    const { url, title, snippet = undefined } = source.document ?? source.tool_output ?? {};
    const citation: Citation = {
      ...(typeof url === "string" && { url }),
      ...(typeof title === "string" ? { title } : source.id && { title: source.id }),
      ...(typeof snippet === "string" && { quote: snippet }),
      ...place,
      source: { ...cited, sources: [source] },
    };
    return { type: "citation", choice: 0, citation };
  });
}

/** A stretch of several tokens is as likely as all of them together. */
function toLogprob({ text, logprobs }: CohereLogprobs): ContentLogprob[] {
  if (text == null || !logprobs?.length) return [];
  const logprob = logprobs.reduce((sum, one) => sum + one, 0);
  return [{ token: text, logprob, bytes: [...Buffer.from(text)], top_logprobs: [] }];
}

/** @returns the end of the one choice there is, or what went wrong with it */
function readEnd({
  finish_reason: told,
  usage,
}: {
  finish_reason?: string | null | undefined;
  usage?: unknown;
}): AnswerEvent[] {
  const read = readCohereUsage(usage);
  const used: AnswerEvent[] = read ? [{ type: "usage", usage: read }] : [];
  if (told === "TIMEOUT") {
    const error = new HubError("upstream_timeout", "The upstream stopped its answer in time.");
    return [...used, { type: "error", error }];
  }
  if (told?.startsWith("ERROR") && !finishReasons.has(told))
    return [...used, { type: "error", error: brokenOff(told) }];
  return [{ type: "finish", choice: 0, reason: finishReasons.get(told ?? "") ?? "stop" }, ...used];
}

function brokenOff(told: string): HubError {
  return new HubError("upstream_error", `The upstream broke off the answer: ${safeWords(told)}`, {
    unquoted: "The upstream broke off the answer with an error.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const finishReasons: ReadonlyMap<string, FinishReason> = new Map([
  ["COMPLETE", "stop"],
  ["STOP_SEQUENCE", "stop_sequence"],
  ["MAX_TOKENS", "length"],
  ["TOOL_CALL", "tool_calls"],
  // Of the first version of its API, and of those who serve its models as it did.
  ["ERROR_TOXIC", "content_filter"],
]);
