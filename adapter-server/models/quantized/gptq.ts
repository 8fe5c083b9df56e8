/**
 * GPTQ: levels packed along the input, `qweight` `[in · bits / 32, out]`; one scale and zero point for each
 * output and group of inputs. `g_idx` names each input's group, which activation order scatters.
 * @see https://github.com/ModelCloud/GPTQModel `BaseQuantLinear.dequantize_weight` and `convert_gptq_v1_to_v2_format_module`
 */
import type { GptqSettings } from "./config.ts";
import {
  evenGroups,
  groupCount,
  type PackedLayout,
  type PartReader,
  scaleTypes,
  transposed,
  unpackWords,
} from "./packed-matrix.ts";

export function gptqLayout({
  bits,
  groupSize,
  zerosLessOne,
  scattered,
}: GptqSettings): PackedLayout {
  const perWord = 32 / bits;
  return {
    format: `gptq int${bits}`,
    marker: ".qweight",
    sizeOf: ({ shape }) => ({
      out: shape(".qweight")[1] ?? 0,
      in: (shape(".qweight")[0] ?? 0) * perWord,
    }),
    partsOf(size) {
      const groups = groupCount(size.in, groupSize);
      return [
        { ending: ".qweight", dtypes: ["I32"], shape: [size.in / perWord, size.out] },
        { ending: ".qzeros", dtypes: ["I32"], shape: [groups, size.out / perWord] },
        { ending: ".scales", dtypes: scaleTypes, shape: [groups, size.out] },
        { ending: ".g_idx", dtypes: ["I32"], shape: [size.in], optional: !scattered },
      ];
    },
    async load(parts, size) {
      const words = await parts.words(".qweight");
      const zeros = await parts.words(".qzeros");
      // The first version stored zero points less one, by one subtraction from whole words. What that
      // borrowed from the neighbour, where a zero point was 0, comes back by one addition to whole words.
      if (zerosLessOne)
        for (let i = 0; i < zeros.length; i++) zeros[i]! += bits === 4 ? 0x11111111 : 0x01010101;
      return {
        ...size,
        levels: (from, to) => levelsOf(words, { size, bits, from, to }),
        scales: transposed(await parts.numbers(".scales"), size.out),
        zeros: transposed(unpackWords(zeros, bits), size.out),
        groupOf: parts.has(".g_idx")
          ? await namedGroups(parts, groupCount(size.in, groupSize))
          : evenGroups(size.in, groupSize),
      };
    },
  };
}

function levelsOf(
  words: Uint32Array,
  {
    size,
    bits,
    from,
    to,
  }: { size: { out: number; in: number }; bits: 4 | 8; from: number; to: number },
): Uint8Array {
  const perWord = 32 / bits;
  const mask = 2 ** bits - 1;
  const levels = new Uint8Array((to - from) * size.in);
  // Word by word as they lie in memory; the rows written to meanwhile stay in the processor's cache.
  for (let wordRow = 0; wordRow < size.in / perWord; wordRow++) {
    for (let row = from; row < to; row++) {
      const word = words[wordRow * size.out + row]!;
      const start = (row - from) * size.in + wordRow * perWord;
      for (let i = 0; i < perWord; i++) levels[start + i] = (word >>> (i * bits)) & mask;
    }
  }
  return levels;
}

async function namedGroups(parts: PartReader, groups: number): Promise<Uint32Array> {
  const groupOf = await parts.words(".g_idx");
  const wrong = groupOf.find((group) => group >= groups);
  if (wrong !== undefined) parts.refuse(`g_idx names group ${wrong | 0} of ${groups}`);
  return groupOf;
}
