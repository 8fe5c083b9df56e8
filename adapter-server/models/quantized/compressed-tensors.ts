/**
 * The `pack-quantized` format of compressed-tensors: rows of levels as whole words, `weight_packed`
 * `[out, in · bits / 32]`; zero points, where there are some, packed along the output.
 * @see https://github.com/vllm-project/compressed-tensors `compressors/pack_quantized`
 */
import type { CompressedSettings } from "./config.ts";
import {
  evenGroups,
  groupCount,
  type PackedLayout,
  type PackedPart,
  scaleTypes,
  unpackWords,
} from "./packed-matrix.ts";

export function compressedLayout({ bits, groupSize, symmetric }: CompressedSettings): PackedLayout {
  const perWord = 32 / bits;
  return {
    format: `compressed-tensors int${bits}`,
    marker: ".weight_packed",
    sizeOf: ({ shape }) => ({
      out: shape(".weight_packed")[0] ?? 0,
      in: (shape(".weight_packed")[1] ?? 0) * perWord,
    }),
    partsOf(size) {
      const groups = groupCount(size.in, groupSize);
      const zeroPoints: PackedPart = {
        ending: ".weight_zero_point",
        dtypes: ["I32"],
        shape: [Math.ceil(size.out / perWord), groups],
      };
      return [
        { ending: ".weight_packed", dtypes: ["I32"], shape: [size.out, size.in / perWord] },
        { ending: ".weight_scale", dtypes: scaleTypes, shape: [size.out, groups] },
        { ending: ".weight_shape", dtypes: ["I32", "I64"], shape: [2] },
        ...(symmetric ? [] : [zeroPoints]),
      ];
    },
    async load(parts, size) {
      const told = await parts.words(".weight_shape");
      // Sizes are below 2³², so of 64-bit numbers the lower half tells all.
      const [rows, columns] = told.length === 4 ? [told[0], told[2]] : told;
      if (rows !== size.out || columns !== size.in) {
        parts.refuse(
          `weight_shape is [${rows},${columns}], and the packed rows are [${size.out},${size.in}]`,
        );
      }
      const words = await parts.words(".weight_packed");
      const scales = await parts.numbers(".weight_scale");
      const wordsPerRow = size.in / perWord;
      return {
        ...size,
        levels: (from, to) =>
          unpackWords(words.subarray(from * wordsPerRow, to * wordsPerRow), bits),
        scales,
        zeros: symmetric
          ? new Uint8Array(scales.length).fill(2 ** (bits - 1))
          : zeroPointsOf(await parts.words(".weight_zero_point"), { bits, scales, out: size.out }),
        groupOf: evenGroups(size.in, groupSize),
      };
    },
  };
}

/** Zero points `[out, groups]` of words `[out · bits / 32, groups]`. */
function zeroPointsOf(words: Uint32Array, { bits, scales, out }: ZeroPoints): Uint8Array {
  const perWord = 32 / bits;
  const groups = scales.length / out;
  const zeros = new Uint8Array(scales.length);
  for (let row = 0; row < out; row++) {
    for (let group = 0; group < groups; group++) {
      const word = words[Math.floor(row / perWord) * groups + group]!;
      zeros[row * groups + group] = (word >>> ((row % perWord) * bits)) & (2 ** bits - 1);
    }
  }
  return zeros;
}

type ZeroPoints = { bits: 4 | 8; scales: Float32Array; out: number };
