/** The two shapes of an answer: one completion, or a stream of chunks. */
import type {
  ChatCompletion,
  ChatLogprobs,
  FinishReason,
  ToolCall,
} from "../../sdk/protocol/chat.ts";
import { toErrorBody } from "../../sdk/protocol/errors.ts";
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
  tokenizer: Pick<Tokenizer, "bytesOf">;
};

/** Reads all pieces and builds the whole answer. */
export async function toCompletion(
  head: AnswerHead,
  pieces: AsyncIterable<ChatPiece>,
  choices: number,
): Promise<ChatCompletion> {
  const texts = new Array<string>(choices).fill("");
  const finished = new Array<FinishReason>(choices).fill("length");
  const logprobs = texts.map((): ChosenToken[] | undefined => undefined);
  const calls = texts.map((): ToolCall[] => []);
  const count = new UsageCount(head.promptTokens);
  let promptLogprobs: readonly PromptLogprobs[] | undefined;
  for await (const piece of pieces) {
    const { choice, text, finish, logprobs: found } = piece;
    promptLogprobs ??= piece.promptLogprobs;
    texts[choice] += text;
    for (const delta of piece.calls ?? []) addCall(calls[choice] ?? [], delta);
    if (found) logprobs[choice] = [...(logprobs[choice] ?? []), ...found];
    count.add(piece);
    if (finish) finished[choice] = finish;
  }
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices: texts.map((content, index) => ({
      index,
      message: toMessage(content, calls[index] ?? []),
      logprobs: toLogprobs(head, logprobs[index]),
      finish_reason: finished[index] ?? "length",
    })),
    usage: count.usage(),
    system_fingerprint: head.fingerprint,
    ...(promptLogprobs && {
      prompt_logprobs: toPromptLogprobs(promptLogprobs, head.tokenizer),
    }),
  };
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
  const chunk = (index: number, delta: string, finish: string | null, logprobs = "null") =>
    `${prefix}{"index":${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finish === null ? "null" : `"${finish}"`}}${suffix}`;

  const begun = new Set<number>();
  const count = new UsageCount(head.promptTokens);
  try {
    for await (const piece of pieces) {
      count.add(piece);
      let frames = "";
      if (!begun.has(piece.choice)) {
        begun.add(piece.choice);
        frames += chunk(piece.choice, '{"role":"assistant","content":"","refusal":null}', null);
      }
      if (piece.text !== "" || piece.logprobs) {
        const logprobs = JSON.stringify(toLogprobs(head, piece.logprobs));
        const delta = `{"content":${JSON.stringify(piece.text)}}`;
        frames += chunk(piece.choice, delta, null, logprobs);
      }
      for (const call of piece.calls ?? []) {
        frames += chunk(
          piece.choice,
          `{"tool_calls":[${JSON.stringify(toCallDelta(call))}]}`,
          null,
        );
      }
      if (piece.finish) frames += chunk(piece.choice, "{}", piece.finish);
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
