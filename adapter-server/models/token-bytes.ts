/** The bytes that a single token stands for, which decoding it alone would not show where it is half a character. */
import { z } from "zod";

/**
 * @param tokenizer the parsed `tokenizer.json`
 * @param wordOf    a token's entry in the vocabulary
 */
export function tokenBytes(
  tokenizer: unknown,
  wordOf: (id: number) => string | undefined,
): (id: number) => Uint8Array {
  const { added_tokens, decoder } = tokenizerFile.parse(tokenizer);
  const added = new Map(added_tokens.map(({ id, content }) => [id, content]));
  const isByteLevel = JSON.stringify(decoder ?? null).includes('"ByteLevel"');
  const encoder = new TextEncoder();
  return (id) => {
    const text = added.get(id);
    if (text !== undefined) return encoder.encode(text);
    const word = wordOf(id) ?? "";
    if (isByteLevel) return fromByteLevel(word);
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(word)?.[1];
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    // SentencePiece writes spaces as a visible character.
    return encoder.encode(word.replaceAll("\u2581", " "));
  };
}

function fromByteLevel(word: string): Uint8Array {
  const encoder = new TextEncoder();
  return Uint8Array.from(
    [...word].flatMap((character) => {
      const byte = byteOf.get(character);
      return byte === undefined ? [...encoder.encode(character)] : [byte];
    }),
  );
}

/** GPT-2's alphabet: bytes that are visible stand for themselves, all others for characters from U+0100 on. */
const byteOf = new Map<string, number>();
let hidden = 0;
for (let byte = 0; byte < 256; byte++) {
  const isVisible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  byteOf.set(String.fromCodePoint(isVisible ? byte : 256 + hidden++), byte);
}

const tokenizerFile = z.object({
  added_tokens: z.array(z.object({ id: z.int(), content: z.string() })).default([]),
  decoder: z.unknown(),
});
