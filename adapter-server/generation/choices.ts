/** Decodes the choices of one request: tokens from the engine become pieces of text, with stop strings. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import type { Engine, GenerateRequest, TokenBatch } from "../engine/engine.ts";
import type { PromptLogprobs, TokenLogprobs } from "../engine/logprobs.ts";
import type { FinishReason } from "../engine/sequence.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import { Detokenizer } from "../output/detokenizer.ts";
import { StopStrings } from "../output/stop-strings.ts";
import { merge } from "./merge.ts";

/** A token that was chosen, and how likely it was. */
export type ChosenToken = TokenLogprobs & { token: number };

/** Text that one choice gained, and by which tokens; the choice's last piece has `finish`. */
export type Piece = {
  choice: number;
  text: string;
  tokens: number[];
  /** Of the tokens but those that end the answer, when the request asks for them. */
  logprobs?: ChosenToken[];
  /** The token that ended the answer and is none of its own, when log-probabilities are asked for. */
  end?: ChosenToken;
  finish?: FinishReason;
  /** With the finish: the stop string or token of the request's own that ended the answer. */
  stopReason?: string | number;
  /** In a choice's first piece: digest of the adapter that sat in its slot. */
  adapter?: string;
  /** In a choice's first piece: tokens of the prompt that were cached. */
  cachedTokens?: number;
  /** In a choice's first piece: how long it waited for its first step. */
  queuedMs?: number;
  /** In its last one, unless it is none: how often it lost its blocks. */
  preemptions?: number;
  /** In the first piece of a prompt's first choice, when they are asked for: of all its tokens but the first. */
  promptLogprobs?: readonly PromptLogprobs[];
};

export type DecodeOptions = {
  engine: Pick<Engine, "generateEach">;
  tokenizer: Pick<Tokenizer, "decode">;
  request: Omit<GenerateRequest, "signal">;
  text: {
    stop: readonly string[];
    includeStop: boolean;
    skipSpecialTokens: boolean;
  };
  /** Of the request's stop tokens those that the request named, and that do not end every answer. */
  stopTokens?: readonly number[];
  choices: number;
  /** Whether only the prompt is of interest, and what is said after it is dropped. */
  promptOnly?: boolean;
  signal: AbortSignal;
};

/** Pieces of all choices as they come. Leaving the loop cancels what still runs. */
export async function* decodeChoices(options: DecodeOptions): AsyncGenerator<Piece, void, void> {
  const leave = new AbortController();
  const signal = anySignal([options.signal, leave.signal]);
  const choices = options.engine
    .generateEach({ ...options.request, signal }, options.choices)
    .map((batches, choice) => decodeChoice(options, choice, batches));
  try {
    const [only] = choices;
    if (only && choices.length === 1) yield* only;
    else yield* merge(choices);
  } finally {
    leave.abort();
  }
}

async function* decodeChoice(
  options: DecodeOptions,
  choice: number,
  batches: AsyncGenerator<TokenBatch, void, void>,
): AsyncGenerator<Piece, void, void> {
  const { request, text } = options;
  const detokenizer = new Detokenizer(options.tokenizer, text);
  const stops = new StopStrings(text.stop, text);
  const { minTokens = 0 } = request.sampling;
  let said = 0;
  for await (const batch of batches) {
    const piece: Piece = { choice, text: "", tokens: [] };
    if (batch.promptLogprobs) piece.promptLogprobs = batch.promptLogprobs;
    if (batch.adapter !== undefined) piece.adapter = batch.adapter;
    if (batch.cachedTokens !== undefined) piece.cachedTokens = batch.cachedTokens;
    if (batch.queuedMs !== undefined) piece.queuedMs = batch.queuedMs;
    if (batch.preemptions !== undefined) piece.preemptions = batch.preemptions;
    if (options.promptOnly) {
      yield { ...piece, finish: "length" };
      return;
    }
    for (const [index, token] of batch.tokens.entries()) {
      piece.tokens.push(token);
      const ends = request.stopIds.includes(token);
      if (!ends || text.includeStop) {
        const more = detokenizer.push(token);
        // What is said before an answer may end is not looked through for its end.
        piece.text += ++said > minTokens ? stops.push(more) : more;
      }
      const logprobs = batch.logprobs?.[index];
      if (logprobs && ends) piece.end = { token, ...logprobs };
      else if (logprobs) {
        piece.logprobs ??= [];
        piece.logprobs.push({ token, ...logprobs });
      }
      if (stops.stopped) break;
    }
    if (batch.finish !== undefined && !stops.stopped) {
      piece.text += stops.push(detokenizer.flush()) + stops.flush();
    }
    const finish = stops.stopped ? "stop" : batch.finish;
    if (finish !== undefined) piece.finish = finish;
    const last = batch.tokens.at(-1);
    if (stops.found !== undefined) piece.stopReason = stops.found;
    else if (finish === "stop" && last !== undefined && options.stopTokens?.includes(last)) {
      piece.stopReason = last;
    }
    yield piece;
    if (finish !== undefined) return;
  }
}
