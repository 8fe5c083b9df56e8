/** A canonical answer as one of Anthropic's messages. */
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { Answer, FinishReason } from "../../canonical/answer.ts";
import type { Citation, OutputPart, ReasoningPart, ToolCallPart } from "../../canonical/request.ts";
import type { AnswerHead } from "../dialect.ts";
import { toCallSeal, toClientSeal } from "./seal.ts";

export type StopReason =
  | "end_turn"
  | "max_tokens"
  | "stop_sequence"
  | "tool_use"
  | "pause_turn"
  | "refusal";

export function writeMessage({ id, model, choices, usage }: Answer, head: AnswerHead): unknown {
  const [choice] = choices;
  const refusal = choice?.parts.find((part) => part.type === "refusal")?.text;
  const finish = choice?.finish ?? "stop";
  return {
    ...messageHead({ id, model }, head),
    content: choice?.parts.flatMap(writePart) ?? [],
    ...writeStop(finish, { stopSequence: choice?.stopSequence, refusal }),
    usage: writeUsage(usage?.usage),
  };
}

/** What a whole message and a stream's beginning share. Clients log and match the id's prefix. */
export function messageHead(
  { id, model }: { id?: string | undefined; model?: string | undefined },
  head: AnswerHead,
): Record<string, unknown> {
  return {
    id: `msg_${(id ?? head.id).replace(/^(?:msg_|chatcmpl-|resp_|req_)/, "")}`,
    type: "message",
    role: "assistant",
    model: model ?? head.model,
    container: null,
    diagnostics: null,
  };
}

export function writeStop(
  finish: FinishReason,
  { stopSequence, refusal }: { stopSequence?: string | undefined; refusal?: string | undefined },
): { stop_reason: StopReason; stop_sequence: string | null; stop_details: unknown } {
  const stop_reason = refusal === undefined ? toStopReason(finish) : "refusal";
  return {
    stop_reason,
    stop_sequence: stopSequence ?? null,
    stop_details:
      stop_reason === "refusal"
        ? { type: "refusal", category: null, explanation: refusal ?? null }
        : null,
  };
}

/** Anthropic's counts are disjoint in the input and inclusive in the output; what nobody told is zero where a number has to be. */
export function writeUsage(usage: UsageVector | undefined): Record<string, unknown> {
  return {
    ...writeCounts(usage),
    cache_creation: null,
    inference_geo: null,
    service_tier: null,
    speed: null,
  };
}

/** The counts that a stream's `message_delta` repeats. */
export function writeCounts(usage: UsageVector = {}): Record<string, unknown> {
  const { input = 0, cache_read, cache_write, output = 0, reasoning } = usage;
  return {
    input_tokens: input,
    cache_creation_input_tokens: cache_write ?? null,
    cache_read_input_tokens: cache_read ?? null,
    output_tokens: output + (reasoning ?? 0),
    output_tokens_details: reasoning === undefined ? null : { thinking_tokens: reasoning },
    server_tool_use: null,
  };
}

export function writeCitation({ source, url, title, quote, start, end }: Citation): unknown {
  const own = source as { type?: unknown } | undefined;
  if (typeof own?.type === "string" && ownCitations.has(own.type)) return own;
  if (url !== undefined) {
    return {
      type: "web_search_result_location",
      url,
      title: title ?? null,
      cited_text: quote ?? "",
      encrypted_index: "",
    };
  }
  return {
    type: "char_location",
    cited_text: quote ?? "",
    document_index: 0,
    document_title: title ?? null,
    start_char_index: start ?? 0,
    end_char_index: end ?? 0,
    file_id: null,
  };
}

/** Blocks of reasoning; a seal without a text stands alone. */
export function sealedBlock(seal: {
  signature?: string | undefined;
  encrypted?: string | undefined;
}): object | undefined {
  const { signature, encrypted } = seal;
  if (encrypted !== undefined) {
    return { type: "redacted_thinking", data: toClientSeal(encrypted) };
  }
  if (signature === undefined) return undefined;
  return { type: "thinking", thinking: "", signature: toClientSeal(signature) };
}

/** A call's own seal has no place in its block, so it stands in one before it. */
export function callSealBlock(signature: string): object {
  return { type: "thinking", thinking: "", signature: toCallSeal(signature) };
}

/** Where a call begins; its input follows. */
export function callBlock({ id, name }: Pick<ToolCallPart, "id" | "name">): object {
  return { type: "tool_use", id, name, input: {}, caller: { type: "direct" } };
}

function toStopReason(finish: FinishReason): StopReason {
  switch (finish) {
    case "stop":
      return "end_turn";
    case "length":
      return "max_tokens";
    case "tool_calls":
      return "tool_use";
    case "content_filter":
    case "refusal":
      return "refusal";
    case "pause":
      return "pause_turn";
    case "stop_sequence":
      return finish;
    default:
      return finish satisfies never;
  }
}

function writePart(part: OutputPart): object[] {
  switch (part.type) {
    case "text": {
      // Absent where there are none, as Anthropic has it: not every client takes null.
      const citations = part.citations?.map(writeCitation);
      return part.text === ""
        ? []
        : [{ type: "text", text: part.text, ...(citations && { citations }) }];
    }
    case "refusal":
      return [{ type: "text", text: part.text }];
    case "reasoning":
      return writeReasoning(part);
    case "tool_call": {
      const seal = part.signature === undefined ? [] : [callSealBlock(part.signature)];
      return [...seal, { ...callBlock(part), input: parseInput(part.arguments) }];
    }
    default:
      return part satisfies never;
  }
}

function writeReasoning({ text, signature, encrypted }: ReasoningPart): object[] {
  const told = text === "" ? [] : [{ type: "thinking", thinking: text, signature: "" }];
  if (encrypted === undefined && text !== "" && signature !== undefined) {
    return [{ type: "thinking", thinking: text, signature: toClientSeal(signature) }];
  }
  return [...told, sealedBlock({ signature, encrypted }) ?? []].flat();
}

/** An input is an object; what a model left unfinished is kept as the text that it is. */
function parseInput(text: string): unknown {
  if (text.trim() === "") return {};
  try {
    const input: unknown = JSON.parse(text);
    if (typeof input === "object" && input !== null && !Array.isArray(input)) return input;
  } catch {
    // Cut off by a limit, most likely.
  }
  return { rawInvalidInput: text };
}

const ownCitations: ReadonlySet<string> = new Set([
  "char_location",
  "page_location",
  "content_block_location",
  "web_search_result_location",
  "search_result_location",
]);
