/** A tokenizer's tokens as bytes, in memory that threads share, and as the words that grammars are matched over. */
import type { Tokenizer } from "../../models/tokenizer.ts";
import { toAscii } from "./ascii-bytes.ts";

/** Token `id` is `bytes[ends[id - 1] ?? 0 .. ends[id]]`; control tokens and ids that stand for nothing are empty. */
export type Vocabulary = { bytes: Uint8Array; ends: Int32Array };

/** @param size as the model has it; some have rows for tokens that the tokenizer does not know */
export function toVocabulary(
  tokenizer: Pick<Tokenizer, "bytesOf" | "isControl">,
  size: number,
): Vocabulary {
  const words = Array.from({ length: size }, (_, id) =>
    tokenizer.isControl(id) ? new Uint8Array() : tokenizer.bytesOf(id),
  );
  const total = words.reduce((sum, word) => sum + word.length, 0);
  const bytes = new Uint8Array(new SharedArrayBuffer(total));
  const ends = new Int32Array(new SharedArrayBuffer(4 * size));
  let end = 0;
  for (const [id, word] of words.entries()) {
    bytes.set(word, end);
    end += word.length;
    ends[id] = end;
  }
  return { bytes, ends };
}

/** Each token in the alphabet of `ascii-bytes.ts`. */
export function asciiWords({ bytes, ends }: Vocabulary): string[] {
  return Array.from(ends, (end, id) => toAscii(bytes.subarray(ends[id - 1] ?? 0, end)));
}
