/** Keeps a draw to the tokens that a grammar allows next. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { LogitChanges } from "./logit-changes.ts";

/**
 * Names those tokens that are allowed, or those that are not, whichever are fewer: at most half of a vocabulary.
 * @param mask    a bit for each token that the grammar allows, 32 to a word
 * @param stopIds where what was wished bans all that the grammar allows, its end among them, the output ends
 * @throws HubError `invalid_value` when no token of the vocabulary continues what the grammar asks for
 */
export function withMask(
  logits: Float32Array,
  mask: Int32Array,
  stopIds: readonly number[],
  wished: LogitChanges | undefined,
): LogitChanges {
  const others = wished?.others ?? "kept";
  const wish = new Map(wished?.tokens.map((token, index) => [token, wished.values[index]!]));
  const logitOf = (token: number) =>
    wish.get(token) ?? (others === "kept" ? logits[token]! : -Infinity);
  const allowed = countOf(mask, logits.length);
  if (others === "banned" || allowed <= logits.length / 2) {
    const tokens = tokensIn(mask, logits.length, true);
    const changes = { tokens, values: tokens.map(logitOf), others: "banned" as const };
    return changes.values.some((value) => value !== -Infinity)
      ? changes
      : ending(logits, mask, stopIds);
  }
  const banned = tokensIn(mask, logits.length, false);
  const changed = [...wish].filter(([token]) => isAllowed(mask, token));
  return {
    tokens: [...banned, ...changed.map(([token]) => token)],
    values: [...banned.map(() => -Infinity), ...changed.map(([, value]) => value)],
    others: "kept",
  };
}

function ending(logits: Float32Array, mask: Int32Array, stopIds: readonly number[]): LogitChanges {
  const tokens = stopIds.filter((token) => isAllowed(mask, token));
  if (tokens.length === 0) {
    throw new HubError(
      "invalid_value",
      "No token that the request allows continues what the output's format asks for.",
    );
  }
  return { tokens, values: tokens.map((token) => logits[token]!), others: "banned" };
}

function isAllowed(mask: Int32Array, token: number): boolean {
  return ((mask[token >> 5]! >>> (token & 31)) & 1) === 1;
}

function countOf(mask: Int32Array, vocabSize: number): number {
  let count = 0;
  for (let word = 0; word < mask.length; word++) {
    for (let bits = inVocabulary(mask[word]!, word, vocabSize); bits !== 0; bits &= bits - 1)
      count++;
  }
  return count;
}

/** In the order of their ids. */
function tokensIn(mask: Int32Array, vocabSize: number, allowed: boolean): number[] {
  const tokens: number[] = [];
  for (let word = 0; word < mask.length; word++) {
    let bits = inVocabulary(allowed ? mask[word]! : ~mask[word]!, word, vocabSize);
    for (; bits !== 0; bits &= bits - 1) tokens.push(32 * word + 31 - Math.clz32(bits & -bits));
  }
  return tokens;
}

/** Bits behind the vocabulary's end mean nothing. */
function inVocabulary(bits: number, word: number, vocabSize: number): number {
  const left = vocabSize - 32 * word;
  return left >= 32 ? bits : bits & ((1 << left) - 1);
}
