/**
 * The rules by which byte-level tokenizers cut text into words. A GGUF file has only a rule's name, so
 * that the rules are a table here.
 */

/** How text becomes the words that merges work on. */
type WordRule = { normalizer: object | null; steps: object[]; ignoresMerges: boolean };

/** The words of a regular expression, then their bytes as letters. */
function byPattern(pattern: string, rest: Partial<WordRule> = {}): WordRule {
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  const bytes = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: false,
  };
  return { normalizer: null, ignoresMerges: false, ...rest, steps: [split, bytes] };
}

const gpt2Words = {
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: true,
};
const [beforeNumbers, afterNumbers] = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|",
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
];
const llama3 = byPattern(`${beforeNumbers}\\p{N}{1,3}${afterNumbers}`, { ignoresMerges: true });
const qwen2 = byPattern(`${beforeNumbers}\\p{N}${afterNumbers}`, { normalizer: { type: "NFC" } });

/** By `tokenizer.ggml.pre`; the patterns are those of the models' own `tokenizer.json`. */
export const wordRules: ReadonlyMap<string, WordRule> = new Map([
  ["gpt-2", { normalizer: null, ignoresMerges: false, steps: [gpt2Words] }],
  ["llama-bpe", llama3],
  ["llama3", llama3],
  ["qwen2", qwen2],
  ["deepseek-r1-qwen", qwen2],
  [
    "smollm",
    {
      normalizer: null,
      ignoresMerges: false,
      steps: [{ type: "Digits", individual_digits: true }, gpt2Words],
    },
  ],
]);
