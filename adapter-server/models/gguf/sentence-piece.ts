/**
 * SentencePiece's BPE in the terms of `tokenizer.json`. Its files have a score for each piece and no
 * merges: of two neighbours, those are joined first whose union scores highest.
 */

/** The steps around the model: blanks become a letter, and what is no piece becomes its bytes. */
export function sentencePieceSteps({ startsWithBlank }: { startsWithBlank: boolean }): object {
  const replace = { type: "Replace", pattern: { String: " " }, content: blank };
  const prepend = { type: "Prepend", prepend: blank };
  const restore = { type: "Replace", pattern: { String: blank }, content: " " };
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  const joined = [restore, { type: "ByteFallback" }, { type: "Fuse" }];
  return {
    normalizer: { type: "Sequence", normalizers: startsWithBlank ? [prepend, replace] : [replace] },
    pre_tokenizer: null,
    decoder: { type: "Sequence", decoders: startsWithBlank ? [...joined, strip] : joined },
  };
}

/**
 * Every way to make a piece of two others, the best scored piece first.
 * @param pieces the ordinary ones, with their scores
 */
export function mergesOf(pieces: ReadonlyMap<string, number>): [string, string][] {
  const ranked = [...pieces].sort(([, one], [, other]) => other - one);
  return ranked.flatMap(([piece]) => splitsOf(piece, pieces));
}

function splitsOf(piece: string, pieces: ReadonlyMap<string, number>): [string, string][] {
  const letters = [...piece.slice(0, pieceLettersMax)];
  const splits = letters.slice(1).map((_, at): [string, string] => {
    const left = letters.slice(0, at + 1).join("");
    return [left, piece.slice(left.length)];
  });
  const known = splits.filter(([left, right]) => pieces.has(left) && pieces.has(right));
  const score = ([left, right]: [string, string]) =>
    (pieces.get(left) ?? 0) + (pieces.get(right) ?? 0);
  return known.sort((one, other) => score(other) - score(one));
}

/** U+2581, which stands for a blank in pieces. */
const blank = "▁";
/** No real piece comes near; it bounds the work that a hostile one makes. */
const pieceLettersMax = 256;
