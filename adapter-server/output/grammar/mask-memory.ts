/** Masks in memory that the engine and its mask threads share, a row for each text that follows a grammar. */

export type MaskMemory = {
  /** Of each row: 1 + the tokens of its text that its mask comes after, or what else `states` names. */
  states: Int32Array;
  /** `[rows, words]`, a bit for each token. */
  masks: Int32Array;
  words: number;
};

export const states = {
  /** Nothing is known yet. */
  empty: 0,
  /** The last token was not one that the grammar allows. */
  refused: -1,
} as const;

export function createMaskMemory(rows: number, vocabSize: number): MaskMemory {
  const words = Math.ceil(vocabSize / 32);
  return {
    states: new Int32Array(new SharedArrayBuffer(4 * rows)),
    masks: new Int32Array(new SharedArrayBuffer(4 * rows * words)),
    words,
  };
}

export function rowOf({ masks, words }: MaskMemory, row: number): Int32Array {
  return masks.subarray(row * words, (row + 1) * words);
}
