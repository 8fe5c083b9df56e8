/**
 * AWQ in AutoAWQ's `gemm` layout: levels packed along the output, `qweight` `[in, out / 8]`, eight to a word
 * in the order 0 2 4 6 1 3 5 7.
 * @see https://github.com/casper-hansen/AutoAWQ `awq/utils/packing_utils.py` and `awq/modules/linear/gemm.py`
 */
import type { AwqSettings } from "./config.ts";
import {
  evenGroups,
  groupCount,
  type MatrixSize,
  type PackedLayout,
  scaleTypes,
  transposed,
} from "./packed-matrix.ts";

export function awqLayout({ groupSize }: AwqSettings): PackedLayout {
  return {
    format: "awq int4",
    marker: ".qweight",
    sizeOf: ({ shape }) => ({
      out: (shape(".qweight")[1] ?? 0) * perWord,
      in: shape(".qweight")[0] ?? 0,
    }),
    partsOf(size) {
      const groups = groupCount(size.in, groupSize);
      return [
        { ending: ".qweight", dtypes: ["I32"], shape: [size.in, size.out / perWord] },
        { ending: ".qzeros", dtypes: ["I32"], shape: [groups, size.out / perWord] },
        { ending: ".scales", dtypes: scaleTypes, shape: [groups, size.out] },
      ];
    },
    async load(parts, size) {
      const words = await parts.words(".qweight");
      const zeros = await parts.words(".qzeros");
      const groups = { out: size.out, in: groupCount(size.in, groupSize) };
      return {
        ...size,
        levels: (from, to) => levelsOf(words, { size, from, to }),
        scales: transposed(await parts.numbers(".scales"), size.out),
        zeros: levelsOf(zeros, { size: groups, from: 0, to: size.out }),
        groupOf: evenGroups(size.in, groupSize),
      };
    },
  };
}

/** @returns `[to - from, in]` of words `[in, out / 8]` */
function levelsOf(
  words: Uint32Array,
  { size, from, to }: { size: MatrixSize; from: number; to: number },
): Uint8Array {
  const levels = new Uint8Array((to - from) * size.in);
  const wordsPerColumn = size.out / perWord;
  for (let column = 0; column < size.in; column++) {
    for (let row = from; row < to; row++) {
      const word = words[column * wordsPerColumn + (row >>> 3)]!;
      levels[(row - from) * size.in + column] = (word >>> (4 * places[row & 7]!)) & 15;
    }
  }
  return levels;
}

const perWord = 8;
/** Where in its word each of eight outputs is. */
const places = [0, 4, 1, 5, 2, 6, 3, 7];
