/** Decodes several prompts of one request: choices are numbered through, those of the first prompt first. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { type DecodeOptions, decodeChoices, type Piece } from "./choices.ts";
import { merge } from "./merge.ts";

export type PromptsOptions = Omit<DecodeOptions, "request"> & {
  requests: readonly DecodeOptions["request"][];
  /** Sequences of the request that are decoded at one time. */
  sequencesMax: number;
};

/** Pieces of all prompts as they come. Leaving the loop cancels what still runs. */
export async function* decodePrompts(options: PromptsOptions): AsyncGenerator<Piece, void, void> {
  const { requests, choices, sequencesMax } = options;
  const [only] = requests;
  if (only && requests.length === 1) return yield* decodeChoices({ ...options, request: only });
  const leave = new AbortController();
  const signal = anySignal([options.signal, leave.signal]);
  const prompts = requests.map((request, prompt) =>
    renumbered(decodeChoices({ ...options, request, signal }), prompt * choices),
  );
  try {
    yield* merge(prompts, Math.max(1, Math.floor(sequencesMax / choices)));
  } finally {
    leave.abort();
  }
}

async function* renumbered(
  pieces: AsyncGenerator<Piece, void, void>,
  before: number,
): AsyncGenerator<Piece, void, void> {
  for await (const piece of pieces) yield { ...piece, choice: before + piece.choice };
}
