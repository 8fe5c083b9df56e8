/** The two shapes of an answer: one completion, or a stream of chunks. */
import type {
  ChatCompletion,
  ChatLogprobs,
  FinishReason,
  ToolCall,
} from "../../sdk/protocol/chat.ts";
import { invariant, toErrorBody } from "../../sdk/protocol/errors.ts";
import { sseDone } from "../../sdk/protocol/sse.ts";
import type { PromptLogprobs } from "../engine/logprobs.ts";
import type { ChosenToken } from "../generation/choices.ts";
import { toContentLogprob, toPromptLogprobs } from "../generation/shown-tokens.ts";
import { UsageCount } from "../generation/usage.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import type { CallDelta, ChatPiece } from "./tool-calls.ts";

/** What all chunks of one answer have in common. */
export type AnswerHead = {
  id: string;
  created: number;
  model: string;
  fingerprint: string;
  promptTokens: number;
  /** The prompt's tokens, where the answer tells tokens by their ids. */
  promptTokenIds?: readonly number[] | undefined;
  tokenizer: Pick<Tokenizer, "bytesOf">;
};

/** Reads all pieces and builds the whole answer. */
export async function toCompletion(
  head: AnswerHead,
  pieces: AsyncIterable<ChatPiece>,
  choices: number,
): Promise<ChatCompletion> {
  const read = Array.from({ length: choices }, newChoice);
  const count = new UsageCount(head.promptTokens);
  let promptLogprobs: readonly PromptLogprobs[] | undefined;
  for await (const piece of pieces) {
    const choice = read[piece.choice];
    invariant(choice, "every choice was asked for");
    promptLogprobs ??= piece.promptLogprobs;
    take(choice, piece);
    count.add(piece);
  }
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices: read.map(({ text, calls, logprobs, finish, stopReason, tokens }, index) => ({
      index,
      message: toMessage(text, calls),
      logprobs: toLogprobs(head, logprobs),
      finish_reason: finish,
      stop_reason: stopReason,
      ...(head.promptTokenIds && { token_ids: tokens }),
    })),
    usage: count.usage(),
    system_fingerprint: head.fingerprint,
    ...(promptLogprobs && {
      prompt_logprobs: toPromptLogprobs(promptLogprobs, head.tokenizer),
    }),
    ...(head.promptTokenIds && { prompt_token_ids: head.promptTokenIds }),
  };
}

/** What was read of one choice. */
type ReadChoice = {
  text: string;
  calls: ToolCall[];
  tokens: number[];
  logprobs: ChosenToken[] | undefined;
  finish: FinishReason;
  stopReason: string | number | null;
};

function newChoice(): ReadChoice {
  return {
    ...{ text: "", calls: [], tokens: [], logprobs: undefined },
    ...{ finish: "length", stopReason: null },
  };
}

function take(choice: ReadChoice, piece: ChatPiece): void {
  choice.text += piece.text;
  for (const delta of piece.calls ?? []) addCall(choice.calls, delta);
  choice.tokens.push(...piece.tokens);
  if (piece.logprobs) {
    choice.logprobs ??= [];
    choice.logprobs.push(...piece.logprobs);
  }
  if (!piece.finish) return;
  choice.finish = piece.finish;
  choice.stopReason = piece.stopReason ?? null;
}

/**
 * SSE frames of the answer. What never changes is written once, so that a token costs one escaped
 * string. A failure after the first frame goes out as the last one, without `[DONE]`.
 */
export async function* toFrames(
  head: AnswerHead,
  pieces: AsyncIterable<ChatPiece>,
  { includeUsage }: { includeUsage: boolean },
): AsyncGenerator<string, void, void> {
  const { id, created, model, fingerprint } = head;
  const common = {
    id,
    object: "chat.completion.chunk",
    created,
    model,
    system_fingerprint: fingerprint,
  };
  const prefix = `data: ${JSON.stringify(common).slice(0, -1)},"choices":[`;
  const suffix = `]${includeUsage ? ',"usage":null' : ""}}\n\n`;
  const untold = new UntoldTokens(head.promptTokenIds !== undefined);
  const chunk = (index: number, fields: string, more = suffix) =>
    `${prefix}{"index":${index},${fields}${more}`;
  const promptIds = head.promptTokenIds && JSON.stringify(head.promptTokenIds);
  const firstSuffix = promptIds ? `],"prompt_token_ids":${promptIds}${suffix.slice(1)}` : suffix;
  const role = '"delta":{"role":"assistant","content":"","refusal":null}';

  const begun = new Set<number>();
  const count = new UsageCount(head.promptTokens);
  try {
    for await (const piece of pieces) {
      const { choice, text, calls = [], finish, stopReason = null } = piece;
      count.add(piece);
      untold.add(piece);
      let frames = "";
      if (!begun.has(choice)) {
        begun.add(choice);
        frames += chunk(choice, `${role},"logprobs":null,"finish_reason":null}`, firstSuffix);
      }
      if (text !== "" || piece.logprobs) {
        const logprobs = JSON.stringify(toLogprobs(head, piece.logprobs));
        const delta = `"delta":{"content":${JSON.stringify(text)}},"logprobs":${logprobs}`;
        frames += chunk(choice, `${delta},"finish_reason":null${untold.take(choice)}}`);
      }
      for (const call of calls) {
        const delta = `"delta":{"tool_calls":[${JSON.stringify(toCallDelta(call))}]},"logprobs":null`;
        frames += chunk(choice, `${delta},"finish_reason":null${untold.take(choice)}}`);
      }
      if (finish) {
        const end = `"finish_reason":"${finish}","stop_reason":${JSON.stringify(stopReason)}`;
        frames += chunk(choice, `"delta":{},"logprobs":null,${end}${untold.take(choice)}}`);
      }
      if (frames !== "") yield frames;
    }
    if (includeUsage) {
      yield `data: ${JSON.stringify({ ...common, choices: [], usage: count.usage() })}\n\n`;
    }
    yield sseDone;
  } catch (error) {
    yield `data: ${JSON.stringify(toErrorBody(error))}\n\n`;
  }
}

/** Tokens that came and that no frame has told yet, where an answer tells them at all. */
class UntoldTokens {
  readonly #tokens: Map<number, number[]> | undefined;

  constructor(tells: boolean) {
    this.#tokens = tells ? new Map() : undefined;
  }

  add({ choice, tokens }: Pick<ChatPiece, "choice" | "tokens">): void {
    const untold = this.#tokens?.get(choice);
    if (untold) untold.push(...tokens);
    else this.#tokens?.set(choice, [...tokens]);
  }

  /** The field of a frame's choice, or nothing. */
  take(choice: number): string {
    if (!this.#tokens) return "";
    const field = `,"token_ids":${JSON.stringify(this.#tokens.get(choice) ?? [])}`;
    this.#tokens.delete(choice);
    return field;
  }
}

/** An answer that is calls alone has no content. */
function toMessage(text: string, calls: ToolCall[]): ChatCompletion["choices"][number]["message"] {
  const content = text === "" && calls.length > 0 ? null : text;
  const message = { role: "assistant" as const, content, refusal: null };
  return calls.length > 0 ? { ...message, tool_calls: calls } : message;
}

function addCall(calls: ToolCall[], delta: CallDelta): void {
  if (delta.type === "call") {
    const { id, name } = delta;
    calls.push({ id, type: "function", function: { name, arguments: "" } });
    return;
  }
  const call = calls[delta.index];
  if (call) call.function.arguments += delta.text;
}

/** Id, type and name come once, with the call's first delta. */
function toCallDelta(delta: CallDelta) {
  const { index } = delta;
  if (delta.type === "arguments") return { index, function: { arguments: delta.text } };
  const { id, name } = delta;
  return { index, id, type: "function", function: { name, arguments: "" } };
}

function toLogprobs(
  { tokenizer }: Pick<AnswerHead, "tokenizer">,
  chosen: readonly ChosenToken[] | undefined,
): ChatLogprobs | null {
  if (!chosen) return null;
  return { content: chosen.map((one) => toContentLogprob(one, tokenizer)), refusal: null };
}
