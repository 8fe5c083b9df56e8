/** Keeps a draw to the tokens that a grammar allows next: a bit for each token, 32 to a word. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { blocksOf, blockTokens } from "../models/token-blocks.ts";
import type { LogitChanges } from "./logit-changes.ts";

/** What is to be done to logits before a token is drawn: first what a request changes, then what its grammar rules out. */
export type Restriction = {
  changes: LogitChanges | undefined;
  /** Absent where all tokens that are left may be drawn. */
  mask: Int32Array | undefined;
};

/**
 * @param logits  `[vocabSize]`, left as they are
 * @param mask    the tokens that the grammar allows
 * @param stopIds where what was wished bans all that the grammar allows, its end among them, the output ends
 * @throws HubError `invalid_value` when no token of the vocabulary continues what the grammar asks for
 */
export function withMask(
  logits: Float32Array,
  mask: Int32Array,
  stopIds: readonly number[],
  wished: LogitChanges | undefined,
): Restriction {
  if (leavesAny(logits, mask, wished)) return { changes: wished, mask };
  const tokens = stopIds.filter((token) => isAllowed(mask, token));
  if (tokens.length === 0) {
    throw new HubError(
      "invalid_value",
      "No token that the request allows continues what the output's format asks for.",
    );
  }
  const values = tokens.map((token) => logits[token]!);
  return { changes: { tokens, values, others: "banned" }, mask: undefined };
}

/** @param row `[vocabSize]` logits, of which those that may not be drawn become -Infinity */
export function applyMask(row: Float32Array, mask: Int32Array): void {
  for (let word = 0; word < mask.length; word++) {
    const bits = mask[word]!;
    if (bits === -1) continue;
    const start = 32 * word;
    const end = Math.min(start + 32, row.length);
    if (bits === 0) {
      row.fill(-Infinity, start, end);
      continue;
    }
    for (let token = start, left = bits; token < end; token++, left >>>= 1) {
      if ((left & 1) === 0) row[token] = -Infinity;
    }
  }
}

/**
 * The place of the largest logit that may be drawn, the first of equals; NaN is never larger.
 * @param peaks the largest of each block of logits, allowed or not, where they are known
 * @returns -1 when there is none
 */
export function argmaxAllowed(
  logits: Float32Array,
  mask: Int32Array,
  peaks?: Float32Array | undefined,
): number {
  let best = -1;
  let largest = -Infinity;
  for (let block = 0; block < blocksOf(logits.length); block++) {
    if (peaks && peaks[block]! <= largest) continue;
    const firstWord = (block * blockTokens) / 32;
    const words = Math.min(mask.length, firstWord + blockTokens / 32);
    for (let word = firstWord; word < words; word++) {
      let bits = inVocabulary(mask[word]!, word, logits.length);
      for (; bits !== 0; bits &= bits - 1) {
        const token = 32 * word + 31 - Math.clz32(bits & -bits);
        if (logits[token]! > largest) [best, largest] = [token, logits[token]!];
      }
    }
  }
  return best;
}

function isAllowed(mask: Int32Array, token: number): boolean {
  return ((mask[token >> 5]! >>> (token & 31)) & 1) === 1;
}

/** Whether a token that the grammar allows may be drawn after all that was wished. */
function leavesAny(
  logits: Float32Array,
  mask: Int32Array,
  wished: LogitChanges | undefined,
): boolean {
  if (wished?.others === "banned") {
    return wished.tokens.some(
      (token, index) => isAllowed(mask, token) && wished.values[index] !== -Infinity,
    );
  }
  const wish = new Map(wished?.tokens.map((token, index) => [token, wished.values[index]!]));
  for (let word = 0; word < mask.length; word++) {
    let bits = inVocabulary(mask[word]!, word, logits.length);
    for (; bits !== 0; bits &= bits - 1) {
      const token = 32 * word + 31 - Math.clz32(bits & -bits);
      if ((wish.get(token) ?? logits[token]!) !== -Infinity) return true;
    }
  }
  return false;
}

/** Bits behind the vocabulary's end mean nothing. */
function inVocabulary(bits: number, word: number, vocabSize: number): number {
  const left = vocabSize - 32 * word;
  return left >= 32 ? bits : bits & ((1 << left) - 1);
}
