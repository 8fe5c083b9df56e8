/** LoRAX's shapes of an answer: whole, with the details of each token, or a stream of tokens. */
import { invariant } from "../../sdk/protocol/errors.ts";
import type { PromptLogprobs } from "../engine/logprobs.ts";
import type { ChosenToken, Piece } from "../generation/choices.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import { Detokenizer } from "../output/detokenizer.ts";
import { toLoraxErrorBody } from "./errors.ts";
import type { LoraxPlan } from "./request.ts";

export type LoraxHead = {
  plan: LoraxPlan;
  prompt: readonly number[];
  endTokenIds: readonly number[];
  tokenizer: Pick<Tokenizer, "decode" | "bytesOf">;
};

type Token = {
  id: number;
  text: string;
  logprob: number;
  special: boolean;
  alternative_tokens: { id: number; text: string; logprob: number }[] | null;
};
type FinishReason = "length" | "eos_token" | "stop_sequence";
type Sequence = { text: string; tokens: Token[]; finish: FinishReason };

/** Reads all pieces; of several sequences the likeliest is the answer, the others stand beside it. */
export async function toGeneration(head: LoraxHead, pieces: AsyncIterable<Piece>) {
  const { plan, prompt } = head;
  const sequences = Array.from({ length: plan.choices }, () => new SequenceReader(head));
  let scored: readonly PromptLogprobs[] = [];
  for await (const piece of pieces) {
    scored = piece.promptLogprobs ?? scored;
    sequences[piece.choice]?.read(piece);
  }
  const prefill = plan.promptDetails ? toPrefill(head, scored) : [];
  const [best, ...others] = sequences.map(({ sequence }) => sequence).sort(byLikelihood);
  invariant(best, "there is at least one sequence");
  const detailsOf = ({ tokens, finish }: Sequence) => ({
    finish_reason: finish,
    generated_tokens: tokens.length,
    seed: plan.seed ?? null,
    prefill,
    tokens,
  });
  if (!plan.details && !plan.promptDetails) return { generated_text: textOf(head, best) };
  const rest = others.map((one) => ({ generated_text: textOf(head, one), ...detailsOf(one) }));
  return {
    generated_text: textOf(head, best),
    details: {
      ...detailsOf(best),
      prompt_tokens: prompt.length,
      ...(rest.length > 0 && { best_of_sequences: rest }),
    },
  };
}

/** A frame for each token; the last has the whole text and what ended it. A failure goes out as the last frame. */
export async function* toTokenFrames(
  head: LoraxHead,
  pieces: AsyncIterable<Piece>,
): AsyncGenerator<string, void, void> {
  const reader = new SequenceReader(head);
  try {
    for await (const piece of pieces) {
      const tokens = reader.read(piece);
      for (const [index, token] of tokens.entries()) {
        const isLast = piece.finish !== undefined && index === tokens.length - 1;
        yield frame({ token, ...(isLast ? endOf(head, reader.sequence) : notYet) });
      }
    }
  } catch (error) {
    yield frame(toLoraxErrorBody(error));
  }
}

/** Collects one sequence's text and tokens. */
class SequenceReader {
  readonly sequence: Sequence = { text: "", tokens: [], finish: "length" };
  readonly #head: LoraxHead;
  readonly #detokenizer: Detokenizer;

  constructor(head: LoraxHead) {
    this.#head = head;
    this.#detokenizer = new Detokenizer(head.tokenizer, { skipSpecialTokens: false });
  }

  /** @returns the tokens that came with the piece */
  read({ text, tokens, logprobs = [], end, finish }: Piece): Token[] {
    this.sequence.text += text;
    const told = end ? [...logprobs, end] : logprobs;
    const read = told.map((one) => this.#toToken(one));
    this.sequence.tokens.push(...read);
    if (finish) this.sequence.finish = this.#reason(finish, tokens.at(-1));
    return read;
  }

  #reason(finish: "stop" | "length", last: number | undefined): FinishReason {
    if (finish === "length") return "length";
    const { endTokenIds, plan } = this.#head;
    return !plan.ignoreEos && last !== undefined && endTokenIds.includes(last)
      ? "eos_token"
      : "stop_sequence";
  }

  #toToken({ token, logprob, top }: ChosenToken): Token {
    const { tokenizer, plan } = this.#head;
    const shown = (id: number) => new TextDecoder().decode(tokenizer.bytesOf(id));
    const others = top.map((one) => ({
      id: one.token,
      text: shown(one.token),
      logprob: one.logprob,
    }));
    return {
      id: token,
      // Texts of all tokens together are the text, characters of several tokens included.
      text: this.#detokenizer.push(token),
      logprob,
      special: tokenizer.decode([token]) === "" && tokenizer.bytesOf(token).length > 0,
      alternative_tokens: plan.alternatives === undefined ? null : others,
    };
  }
}

/** Of the prompt's first token nobody knows how likely it was. */
function toPrefill({ prompt, tokenizer }: LoraxHead, scored: readonly PromptLogprobs[]) {
  return prompt.map((id, index) => ({
    id,
    text: new TextDecoder().decode(tokenizer.bytesOf(id)),
    logprob: index === 0 ? null : (scored[index - 1]?.logprob ?? null),
  }));
}

function byLikelihood(a: Sequence, b: Sequence): number {
  const score = ({ tokens }: Sequence) => tokens.reduce((sum, { logprob }) => sum + logprob, 0);
  return score(b) - score(a);
}

function textOf({ plan }: LoraxHead, { text }: Sequence): string {
  return plan.returnsFullText ? plan.inputs + text : text;
}

function endOf(head: LoraxHead, sequence: Sequence) {
  return {
    generated_text: textOf(head, sequence),
    details: {
      finish_reason: sequence.finish,
      prompt_tokens: head.prompt.length,
      generated_tokens: sequence.tokens.length,
      seed: head.plan.seed ?? null,
    },
  };
}

function frame(content: object): string {
  return `data:${JSON.stringify(content)}\n\n`;
}

const notYet = { generated_text: null, details: null };
