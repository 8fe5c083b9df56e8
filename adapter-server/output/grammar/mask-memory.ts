/** Masks in memory that the engine and its mask threads share, a row for each text that follows a grammar. */

export type MaskMemory = {
  /** Of each row: 1 + the tokens of its text that its mask comes after, or what else `states` names. */
  states: Int32Array;
  /** `[rows, words]`, a bit for each token. */
  masks: Int32Array;
  /** `[rows, supposedMax]`: of each token that is supposed, the round in which its mask was written; less where there is none. */
  supposedStates: Int32Array;
  /** `[rows, supposedMax, words]`: what may come behind each of these tokens. */
  supposedMasks: Int32Array;
  words: number;
};

/** Tokens that one text may be supposed to say before it is known that it does. */
export const supposedMax = 8;

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
    supposedStates: new Int32Array(new SharedArrayBuffer(4 * rows * supposedMax)),
    // A page of it takes memory once it is written to, and few sequences are guessed ahead at one time.
    supposedMasks: new Int32Array(new SharedArrayBuffer(4 * rows * supposedMax * words)),
    words,
  };
}

export function rowOf({ masks, words }: MaskMemory, row: number): Int32Array {
  return masks.subarray(row * words, (row + 1) * words);
}

/** @param place of the row's supposed tokens, from 0 */
export function supposedRowOf(
  { supposedMasks, words }: MaskMemory,
  row: number,
  place: number,
): Int32Array {
  const at = row * supposedMax + place;
  return supposedMasks.subarray(at * words, (at + 1) * words);
}
