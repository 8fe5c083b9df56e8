/** Reads Gemini's answers into canonical events. */
import type { ContentLogprob } from "../../../sdk/protocol/chat.ts";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { AnswerEvent, EventReader, FinishReason } from "../../canonical/answer.ts";
import { markSeal } from "../../canonical/seal.ts";
import { readCitations } from "./citations.ts";
import { readGeminiErrorFrame } from "./errors.ts";
import { parseJson, readGeminiUsage } from "./response.ts";
import {
  type GeminiAnswer,
  type GeminiCandidate,
  type GeminiPart,
  geminiAnswer,
} from "./schema.ts";

/** The events of a whole answer. */
export function readGeminiEvents(answer: GeminiAnswer): AnswerEvent[] {
  const reader = new AnswerReader();
  return [...reader.read(answer), ...reader.unfinished()];
}

/** A stream of server-sent events, each of them an answer by itself. Nothing marks its end. */
export class GeminiReader implements EventReader {
  readonly #parser: SseParser;
  readonly #answer = new AnswerReader();
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
    if (this.#answer.isWhole) return [...rest, { type: "end" }];
    const message = "The upstream ended its stream in the middle of the answer.";
    return [...rest, { type: "error", error: new HubError("upstream_error", message) }];
  }

  #read(data: string): AnswerEvent[] {
    if (this.#ended) return [];
    const json = parseJson(data);
    const error = readGeminiErrorFrame(json);
    if (error) {
      this.#ended = true;
      return [{ type: "error", error }];
    }
    const chunk = geminiAnswer.safeParse(json).data;
    const events = chunk ? this.#answer.read(chunk) : [];
    if (events.at(-1)?.type === "error") this.#ended = true;
    return events;
  }
}

type Choice = { text: string; calls: number; finished: boolean };

/** Follows the candidates of one answer. */
class AnswerReader {
  readonly #choices = new Map<number, Choice>();
  #id: string | undefined;
  #started = false;

  get isWhole(): boolean {
    const choices = [...this.#choices.values()];
    return choices.length > 0 && choices.every(({ finished }) => finished);
  }

  read(answer: GeminiAnswer): AnswerEvent[] {
    const { responseId, modelVersion, candidates, promptFeedback, usageMetadata } = answer;
    const events: AnswerEvent[] = [];
    if (!this.#started) {
      this.#started = true;
      this.#id = responseId ?? undefined;
      events.push({
        type: "start",
        ...(responseId && { id: responseId }),
        ...(modelVersion && { model: modelVersion }),
      });
    }
    for (const candidate of candidates ?? []) {
      for (const event of this.#candidate(candidate)) events.push(event);
    }
    // A prompt that is refused has no candidate that could say so.
    if (promptFeedback?.blockReason && this.#choices.size === 0) {
      events.push(...this.#finish(0, "content_filter"));
    }
    const usage = readGeminiUsage(usageMetadata);
    if (!usage) return events;
    // What went wrong is the last thing that is said.
    const last = events.at(-1)?.type === "error" ? events.splice(-1) : [];
    return [...events, { type: "usage", usage }, ...last];
  }

  /** Of a whole answer, some never say why they stopped. */
  unfinished(): AnswerEvent[] {
    return [...this.#choices.keys()].flatMap((choice) => this.#finish(choice, "stop"));
  }

  #candidate(candidate: GeminiCandidate): AnswerEvent[] {
    const index = candidate.index ?? 0;
    const choice = this.#choice(index);
    const events = (candidate.content?.parts ?? []).flatMap((part) => this.#part(part, index));
    const logprobs = readLogprobs(candidate.logprobsResult);
    const text = events.find((event) => event.type === "text");
    if (logprobs && text) text.logprobs = logprobs;
    for (const citation of readCitations(candidate, choice.text)) {
      events.push({ type: "citation", choice: index, citation });
    }
    const { finishReason } = candidate;
    if (!finishReason || finishReason === "FINISH_REASON_UNSPECIFIED") return events;
    if (failures.has(finishReason)) {
      const told = candidate.finishMessage ? `: ${candidate.finishMessage.slice(0, 500)}` : "";
      const message = `The model made a tool call that cannot be read (${finishReason})${told}.`;
      const unquoted = `The model made a tool call that cannot be read (${finishReason}).`;
      return [
        ...events,
        { type: "error", error: new HubError("upstream_error", message, { unquoted }) },
      ];
    }
    return [...events, ...this.#finish(index, toFinish(finishReason, choice.calls > 0))];
  }

  #part(part: GeminiPart, index: number): AnswerEvent[] {
    const choice = this.#choice(index);
    const signature = part.thoughtSignature ? markSeal("google", part.thoughtSignature) : undefined;
    if (part.functionCall) {
      const { id, name, args } = part.functionCall;
      const call = choice.calls++;
      return [
        {
          type: "tool_call",
          choice: index,
          call,
          // Ids have to differ between the answers of a conversation, too.
          id: id || `call_${[this.#id, index, call].filter((it) => it !== undefined).join("_")}`,
          name: name ?? "",
          ...(signature !== undefined && { signature }),
        },
        { type: "tool_arguments", choice: index, call, text: JSON.stringify(args ?? {}) },
      ];
    }
    const seal: AnswerEvent[] =
      signature === undefined ? [] : [{ type: "reasoning_seal", choice: index, signature }];
    const { text } = part;
    if (!text) return seal;
    if (part.thought) return [{ type: "reasoning", choice: index, text }, ...seal];
    choice.text += text;
    return [{ type: "text", choice: index, text }, ...seal];
  }

  #finish(index: number, reason: FinishReason): AnswerEvent[] {
    const choice = this.#choice(index);
    if (choice.finished) return [];
    choice.finished = true;
    return [{ type: "finish", choice: index, reason }];
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (!choice) {
      choice = { text: "", calls: 0, finished: false };
      this.#choices.set(index, choice);
    }
    return choice;
  }
}

/** A text that stopped by itself and calls that wait for their results are one word to Gemini. */
function toFinish(reason: string, called: boolean): FinishReason {
  if (reason === "MAX_TOKENS") return "length";
  if (filtered.has(reason)) return "content_filter";
  return called ? "tool_calls" : "stop";
}

function readLogprobs(result: GeminiCandidate["logprobsResult"]): ContentLogprob[] | undefined {
  return result?.chosenCandidates?.map((chosen, at) => ({
    ...toLogprob(chosen),
    top_logprobs: (result.topCandidates?.[at]?.candidates ?? []).map(toLogprob),
  }));
}

function toLogprob({ token, logProbability }: { token: string; logProbability: number }) {
  return { token, logprob: logProbability, bytes: [...Buffer.from(token)] };
}

const filtered: ReadonlySet<string> = new Set([
  "SAFETY",
  "RECITATION",
  "LANGUAGE",
  "BLOCKLIST",
  "PROHIBITED_CONTENT",
  "SPII",
  "IMAGE_SAFETY",
  "IMAGE_PROHIBITED_CONTENT",
  "IMAGE_RECITATION",
]);
/** There is no answer then, and asking again often gives one. */
const failures: ReadonlySet<string> = new Set([
  "MALFORMED_FUNCTION_CALL",
  "UNEXPECTED_TOOL_CALL",
  "TOO_MANY_TOOL_CALLS",
]);
