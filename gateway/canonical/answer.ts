/** What a model answers, in no dialect's words: events in the order in which they happen, or all of them gathered. */
import type { ContentLogprob } from "../../sdk/protocol/chat.ts";
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import type { Citation, OutputPart, ReasoningPart, ToolCallPart } from "./request.ts";

/**
 * Streams are read into these, and whole answers too, so that there is one way through. A text, a reasoning or a
 * tool call goes on until an event of another kind or index follows it in its choice.
 */
export type AnswerEvent =
  /** First, once: what the provider calls the answer and the model. */
  | { type: "start"; id?: string; model?: string }
  | { type: "text"; choice: number; text: string; logprobs?: ContentLogprob[] }
  | { type: "refusal"; choice: number; text: string }
  | { type: "reasoning"; choice: number; text: string; id?: string }
  /** Seals the reasoning before it, or stands alone for one that nobody may read. */
  | { type: "reasoning_seal"; choice: number; signature?: string; encrypted?: string; id?: string }
  /** A call begins. `call` counts the calls of a choice, from 0. */
  | {
      type: "tool_call";
      choice: number;
      call: number;
      id: string;
      name: string;
      custom?: boolean;
      signature?: string;
    }
  /** A piece of a call's JSON text. */
  | { type: "tool_arguments"; choice: number; call: number; text: string }
  /** About the text before it. */
  | { type: "citation"; choice: number; citation: Citation }
  | { type: "finish"; choice: number; reason: FinishReason; stopSequence?: string }
  /** The newest counts for the whole answer; a later one replaces an earlier one. */
  | { type: "usage"; usage: ReadUsage }
  /** The provider broke off. Nothing follows. */
  | { type: "error"; error: HubError }
  /** The provider says that this is all. Nothing follows. */
  | { type: "end" };

export type FinishReason =
  | "stop"
  /** One of the request's stop strings came. */
  | "stop_sequence"
  | "length"
  | "tool_calls"
  /** Somebody's filter cut the answer off. */
  | "content_filter"
  /** The model declined. */
  | "refusal"
  /** The provider's own tools want another turn. */
  | "pause";

export type Answer = {
  id: string | undefined;
  model: string | undefined;
  choices: AnswerChoice[];
  usage: ReadUsage | undefined;
};

export type AnswerChoice = {
  parts: OutputPart[];
  finish: FinishReason;
  stopSequence?: string;
  logprobs?: ContentLogprob[];
};

/** Reads a provider's stream, however its bytes are cut. */
export type EventReader = {
  /** @throws Error when a frame grows past its bound */
  push(chunk: Uint8Array): AnswerEvent[];
  /** The provider closed its stream: `end` if the answer was whole, else an `error`. */
  close(): AnswerEvent[];
};

/**
 * Gathers events into a whole answer.
 * @throws HubError the provider's own, where it broke off
 */
export function gatherAnswer(events: Iterable<AnswerEvent>): Answer {
  const answer: Answer = { id: undefined, model: undefined, choices: [], usage: undefined };
  const calls = new Map<AnswerChoice, ToolCallPart[]>();
  for (const event of events) {
    switch (event.type) {
      case "start":
        answer.id = event.id;
        answer.model = event.model;
        break;
      case "usage":
        answer.usage = event.usage;
        break;
      case "error":
        throw event.error;
      case "end":
        break;
      case "finish": {
        const choice = choiceOf(answer, event.choice);
        choice.finish = event.reason;
        if (event.stopSequence !== undefined) choice.stopSequence = event.stopSequence;
        break;
      }
      default:
        addTo(choiceOf(answer, event.choice), event, calls);
    }
  }
  return answer;
}

/** The events that a whole answer is gathered from. */
export function eventsOf({ id, model, choices, usage }: Answer): AnswerEvent[] {
  const events: AnswerEvent[] = [
    { type: "start", ...withId(id), ...(model !== undefined && { model }) },
  ];
  for (const [choice, { parts, finish, stopSequence, logprobs }] of choices.entries()) {
    let calls = 0;
    let told = logprobs;
    for (const part of parts) {
      for (const event of eventsOfPart(part, { choice, call: calls, logprobs: told })) {
        events.push(event);
      }
      if (part.type === "tool_call") calls++;
      if (part.type === "text") told = undefined;
    }
    const stopped = stopSequence === undefined ? {} : { stopSequence };
    events.push({ type: "finish", choice, reason: finish, ...stopped });
  }
  if (usage) events.push({ type: "usage", usage });
  return events;
}

function eventsOfPart(
  part: OutputPart,
  {
    choice,
    call,
    logprobs,
  }: { choice: number; call: number; logprobs: ContentLogprob[] | undefined },
): AnswerEvent[] {
  switch (part.type) {
    case "text":
      return [
        { type: "text", choice, text: part.text, ...(logprobs && { logprobs }) },
        ...(part.citations ?? []).map(
          (citation) => ({ type: "citation", choice, citation }) as const,
        ),
      ];
    case "refusal":
      return [{ type: "refusal", choice, text: part.text }];
    case "reasoning": {
      const { type, text, id, signature, encrypted } = part;
      const seal = {
        ...(signature !== undefined && { signature }),
        ...(encrypted !== undefined && { encrypted }),
      };
      return [
        ...(text === "" ? [] : [{ type, choice, text, ...withId(id) } as const]),
        ...(isSealed(part)
          ? [{ type: "reasoning_seal", choice, ...seal, ...withId(id) } as const]
          : []),
      ];
    }
    case "tool_call": {
      const { type, id, name, custom, signature } = part;
      const more = { ...(custom && { custom }), ...(signature !== undefined && { signature }) };
      return [
        { type, choice, call, id, name, ...more },
        { type: "tool_arguments", choice, call, text: part.arguments },
      ];
    }
    default:
      return part satisfies never;
  }
}

type PartEvent = Exclude<
  AnswerEvent,
  { type: "start" | "usage" | "error" | "end" } | { type: "finish" }
>;

function choiceOf(answer: Answer, index: number): AnswerChoice {
  for (;;) {
    const choice = answer.choices[index];
    if (choice) return choice;
    answer.choices.push({ parts: [], finish: "stop" });
  }
}

/** @param calls of each choice, in order, so that none is looked for among everything that was said */
function addTo(
  choice: AnswerChoice,
  event: PartEvent,
  calls: Map<AnswerChoice, ToolCallPart[]>,
): void {
  const { parts } = choice;
  const last = parts.at(-1);
  switch (event.type) {
    case "text":
      if (last?.type === "text") last.text += event.text;
      else parts.push({ type: "text", text: event.text });
      if (event.logprobs) {
        choice.logprobs ??= [];
        for (const one of event.logprobs) choice.logprobs.push(one);
      }
      return;
    case "refusal":
      if (last?.type === "refusal") last.text += event.text;
      else parts.push({ type: "refusal", text: event.text });
      return;
    case "reasoning":
      if (last?.type === "reasoning" && !isSealed(last)) last.text += event.text;
      else parts.push({ type: "reasoning", text: event.text, ...withId(event.id) });
      return;
    case "reasoning_seal": {
      const { signature, encrypted, id } = event;
      const seal = {
        ...(signature !== undefined && { signature }),
        ...(encrypted !== undefined && { encrypted }),
        ...withId(id),
      };
      if (last?.type === "reasoning" && !isSealed(last)) Object.assign(last, seal);
      else parts.push({ type: "reasoning", text: "", ...seal });
      return;
    }
    case "tool_call": {
      const { id, name, custom, signature } = event;
      const call: ToolCallPart = {
        type: "tool_call",
        id,
        name,
        arguments: "",
        ...(custom && { custom }),
        ...(signature !== undefined && { signature }),
      };
      parts.push(call);
      const before = calls.get(choice);
      if (before) before.push(call);
      else calls.set(choice, [call]);
      return;
    }
    case "tool_arguments": {
      const call = calls.get(choice)?.[event.call];
      if (call) call.arguments += event.text;
      return;
    }
    case "citation": {
      // Some providers tell what a text rests on only after the calls that follow it.
      const text = parts.findLast((part) => part.type === "text");
      if (!text) return;
      text.citations ??= [];
      text.citations.push(event.citation);
      return;
    }
    default:
      event satisfies never;
  }
}

function isSealed({ signature, encrypted }: ReasoningPart): boolean {
  return signature !== undefined || encrypted !== undefined;
}

function withId(id: string | undefined): { id?: string } {
  return id === undefined ? {} : { id };
}
