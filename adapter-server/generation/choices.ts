/** Decodes the choices of one request: tokens from the engine become pieces of text, with stop strings. */
import type { Engine, GenerateRequest } from "../engine/engine.ts";
import type { TokenLogprobs } from "../engine/logprobs.ts";
import type { FinishReason } from "../engine/sequence.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import { Detokenizer } from "../output/detokenizer.ts";
import { StopStrings } from "../output/stop-strings.ts";

/** A token that was chosen, and how likely it was. */
export type ChosenToken = TokenLogprobs & { token: number };

/** Text that one choice gained, and by which tokens; the choice's last piece has `finish`. */
export type Piece = {
  choice: number;
  text: string;
  tokens: number[];
  /** Of the tokens but those that end the answer, when the request asks for them. */
  logprobs?: ChosenToken[];
  finish?: FinishReason;
  /** In a choice's first piece: digest of the adapter that sat in its slot. */
  adapter?: string;
  /** In a choice's first piece: tokens of the prompt that were cached. */
  cachedTokens?: number;
};

export type DecodeOptions = {
  engine: Pick<Engine, "generate">;
  tokenizer: Pick<Tokenizer, "decode">;
  request: Omit<GenerateRequest, "signal">;
  text: {
    stop: readonly string[];
    includeStop: boolean;
    skipSpecialTokens: boolean;
  };
  choices: number;
  signal: AbortSignal;
};

/** Pieces of all choices as they come. Leaving the loop cancels what still runs. */
export async function* decodeChoices(options: DecodeOptions): AsyncGenerator<Piece, void, void> {
  const leave = new AbortController();
  const signal = AbortSignal.any([options.signal, leave.signal]);
  const choices = Array.from({ length: options.choices }, (_, choice) =>
    decodeChoice({ ...options, signal }, choice),
  );
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
): AsyncGenerator<Piece, void, void> {
  const { engine, request, signal, text } = options;
  const detokenizer = new Detokenizer(options.tokenizer, text);
  const stops = new StopStrings(text.stop, text);
  const { minTokens = 0 } = request.sampling;
  let said = 0;
  const sampling = { ...request.sampling, stream: choice };
  for await (const batch of engine.generate({ ...request, sampling, signal })) {
    const piece: Piece = { choice, text: "", tokens: [] };
    if (batch.adapter !== undefined) piece.adapter = batch.adapter;
    if (batch.cachedTokens !== undefined) piece.cachedTokens = batch.cachedTokens;
    for (const [index, token] of batch.tokens.entries()) {
      piece.tokens.push(token);
      const ends = request.stopIds.includes(token);
      if (!ends || text.includeStop) {
        const more = detokenizer.push(token);
        // What is said before an answer may end is not looked through for its end.
        piece.text += ++said > minTokens ? stops.push(more) : more;
      }
      if (!ends) {
        const logprobs = batch.logprobs?.[index];
        if (logprobs) {
          piece.logprobs ??= [];
          piece.logprobs.push({ token, ...logprobs });
        }
      }
      if (stops.stopped) break;
    }
    if (batch.finish !== undefined && !stops.stopped) {
      piece.text += stops.push(detokenizer.flush()) + stops.flush();
    }
    const finish = stops.stopped ? "stop" : batch.finish;
    if (finish !== undefined) piece.finish = finish;
    yield piece;
    if (finish !== undefined) return;
  }
}

/** Items of all generators in the order in which they come. */
async function* merge<T>(
  generators: AsyncGenerator<T, void, void>[],
): AsyncGenerator<T, void, void> {
  const next = async (index: number) => ({ index, result: await generators[index]?.next() });
  const pending = new Map(generators.map((_, index) => [index, next(index)]));
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      if (!result || result.done) {
        pending.delete(index);
      } else {
        pending.set(index, next(index));
        yield result.value;
      }
    }
  } finally {
    // What is left behind ends now; what it still had to say, nobody is there to hear.
    for (const promise of pending.values()) promise.catch(() => {});
    for (const generator of generators) generator.return().catch(() => {});
  }
}
