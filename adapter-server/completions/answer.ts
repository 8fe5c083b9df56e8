/** The two shapes of a text completion: one answer, or a stream of chunks. */
import type { PromptLogprobEntry } from "../../sdk/protocol/chat.ts";
import type { TextCompletion, TextLogprobs } from "../../sdk/protocol/completions.ts";
import { invariant, toErrorBody } from "../../sdk/protocol/errors.ts";
import { sseDone } from "../../sdk/protocol/sse.ts";
import type { PromptLogprobs } from "../engine/logprobs.ts";
import type { ChosenToken, Piece } from "../generation/choices.ts";
import { toPromptLogprobs } from "../generation/shown-tokens.ts";
import { UsageCount } from "../generation/usage.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import { TextLogprobsWriter } from "./logprobs.ts";

/** A prompt as it was read, and as it is echoed. */
export type ReadPrompt = { tokens: readonly number[]; text: string };

/** What all chunks of one answer have in common. */
export type TextHead = {
  id: string;
  created: number;
  model: string;
  fingerprint: string;
  prompts: readonly ReadPrompt[];
  /** Of each prompt. */
  choices: number;
  echo: boolean;
  logprobs: number | undefined;
  shownPromptLogprobs: number | undefined;
  returnsTokenIds: boolean;
  tokenizer: Pick<Tokenizer, "bytesOf">;
};

/** Reads all pieces and builds the whole answer. */
export async function toTextCompletion(
  head: TextHead,
  pieces: AsyncIterable<Piece>,
): Promise<TextCompletion> {
  const count = usageOf(head);
  const choices = Array.from({ length: head.prompts.length * head.choices }, () => ({
    text: "",
    logprobs: [] as TextLogprobs[],
    finish_reason: "length" as "stop" | "length",
    stop_reason: null as string | number | null,
    tokens: [] as number[],
  }));
  const promptLogprobs = new Map<number, readonly PromptLogprobs[]>();
  for await (const part of withPrompts(head, pieces)) {
    const { piece } = part;
    count.add(piece);
    if (piece.promptLogprobs) promptLogprobs.set(promptOf(head, piece), piece.promptLogprobs);
    const choice = choices[piece.choice];
    invariant(choice, "every choice was asked for");
    choice.text += part.text;
    if (part.logprobs) choice.logprobs.push(part.logprobs);
    choice.tokens.push(...piece.tokens);
    if (!piece.finish) continue;
    choice.finish_reason = piece.finish;
    choice.stop_reason = piece.stopReason ?? null;
  }
  return {
    ...commonOf(head),
    choices: choices.map(({ text, logprobs, finish_reason, stop_reason, tokens }, index) => ({
      index,
      text,
      logprobs: head.logprobs === undefined ? null : joined(logprobs),
      finish_reason,
      stop_reason,
      ...(head.returnsTokenIds && {
        token_ids: tokens,
        prompt_token_ids: head.prompts[Math.floor(index / head.choices)]?.tokens ?? [],
      }),
      ...shownPrompt(head, promptLogprobs.get(Math.floor(index / head.choices))),
    })),
    usage: count.usage(),
  };
}

/** SSE frames of the answer. A failure after the first frame goes out as the last one, without `[DONE]`. */
export async function* toTextFrames(
  head: TextHead,
  pieces: AsyncIterable<Piece>,
  { includeUsage }: { includeUsage: boolean },
): AsyncGenerator<string, void, void> {
  const count = usageOf(head);
  const common = commonOf(head);
  const frame = (rest: object) => `data: ${JSON.stringify({ ...common, ...rest })}\n\n`;
  const usage = includeUsage ? { usage: null } : {};
  const begun = new Set<number>();
  /** Tokens that came and that no frame has told yet, by choice. */
  const untold = new Map<number, number[]>();
  try {
    for await (const { piece, text, logprobs = null } of withPrompts(head, pieces)) {
      const { choice: index, finish, stopReason = null } = piece;
      count.add(piece);
      const tokens = untold.get(index) ?? [];
      untold.set(index, tokens);
      tokens.push(...piece.tokens);
      if (text === "" && !logprobs && !finish) continue;
      untold.delete(index);
      const choice = {
        ...{ index, text, logprobs, finish_reason: finish ?? null },
        ...(finish && { stop_reason: stopReason }),
        ...(head.returnsTokenIds && { token_ids: tokens }),
        ...(head.returnsTokenIds &&
          !begun.has(index) && { prompt_token_ids: head.prompts[promptOf(head, piece)]?.tokens }),
      };
      begun.add(index);
      yield frame({ choices: [choice], ...usage });
    }
    if (includeUsage) yield frame({ choices: [], usage: count.usage() });
    yield sseDone;
  } catch (error) {
    yield `data: ${JSON.stringify(toErrorBody(error))}\n\n`;
  }
}

type Part = { piece: Piece; text: string; logprobs?: TextLogprobs };

/** Texts and log-probabilities of pieces; those of a choice's first piece begin with the prompt, when it is echoed. */
async function* withPrompts(
  head: TextHead,
  pieces: AsyncIterable<Piece>,
): AsyncGenerator<Part, void, void> {
  const writers = new Map<number, TextLogprobsWriter>();
  for await (const piece of inOrder(head, pieces)) {
    const isFirst = !writers.has(piece.choice);
    const writer =
      writers.get(piece.choice) ?? new TextLogprobsWriter(head.tokenizer, head.logprobs ?? 0);
    writers.set(piece.choice, writer);
    const prompt = head.prompts[promptOf(head, piece)];
    invariant(prompt, "every choice continues a prompt");
    const echoes = isFirst && head.echo;
    const text = echoes ? prompt.text + piece.text : piece.text;
    const before = echoes ? echoedTokens(prompt, piece.promptLogprobs) : [];
    const chosen = [...before, ...(piece.logprobs ?? [])];
    const tells = head.logprobs !== undefined && chosen.length > 0;
    yield { piece, text, ...(tells && { logprobs: writer.write(chosen) }) };
  }
}

function echoedTokens(
  { tokens }: ReadPrompt,
  scored: readonly PromptLogprobs[] = [],
): (ChosenToken | { token: number; logprob: null })[] {
  return [...tokens.slice(0, 1).map((token) => ({ token, logprob: null })), ...scored];
}

/**
 * How likely a prompt was comes with its first choice. Where every choice begins with that, the others wait for it,
 * and get it too.
 */
async function* inOrder(
  head: TextHead,
  pieces: AsyncIterable<Piece>,
): AsyncGenerator<Piece, void, void> {
  if (!head.echo || head.logprobs === undefined || head.choices === 1) return yield* pieces;
  const scores = new Map<number, readonly PromptLogprobs[]>();
  const waiting = new Map<number, Piece[]>();
  for await (const piece of pieces) {
    const prompt = promptOf(head, piece);
    const found = scores.get(prompt) ?? piece.promptLogprobs;
    if (!found) {
      waiting.set(prompt, [...(waiting.get(prompt) ?? []), piece]);
      continue;
    }
    scores.set(prompt, found);
    const all = [piece, ...(waiting.get(prompt) ?? [])];
    waiting.delete(prompt);
    for (const one of all) yield { ...one, promptLogprobs: found };
  }
}

function promptOf(head: TextHead, { choice }: Piece): number {
  return Math.floor(choice / head.choices);
}

function usageOf({ prompts, choices }: TextHead): UsageCount {
  return new UsageCount(
    prompts.reduce((sum, { tokens }) => sum + tokens.length, 0),
    choices,
  );
}

function commonOf({ id, created, model, fingerprint }: TextHead) {
  const object = "text_completion" as const;
  return { id, object, created, model, system_fingerprint: fingerprint };
}

function joined(parts: readonly TextLogprobs[]): TextLogprobs {
  return {
    tokens: parts.flatMap(({ tokens }) => tokens),
    token_logprobs: parts.flatMap(({ token_logprobs }) => token_logprobs),
    top_logprobs: parts.flatMap(({ top_logprobs }) => top_logprobs),
    text_offset: parts.flatMap(({ text_offset }) => text_offset),
  };
}

function shownPrompt(
  { shownPromptLogprobs, tokenizer }: TextHead,
  scored: readonly PromptLogprobs[] | undefined,
): { prompt_logprobs?: PromptLogprobEntry[] } {
  if (shownPromptLogprobs === undefined || !scored) return {};
  return { prompt_logprobs: toPromptLogprobs(scored, tokenizer, shownPromptLogprobs) };
}
