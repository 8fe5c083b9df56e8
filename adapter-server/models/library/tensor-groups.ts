/** Sums tensors up by the work that they do and the way in which they are stored. */

/** Tensors that do one kind of work and are stored in one way. */
export type TensorGroup = {
  group: string;
  format: string;
  tensors: number;
  parameters: number;
  sizeBytes: number;
};

/** Tensors of one group and format as one line, the groups in the order in which they come first. */
export function groupTensors(all: readonly TensorGroup[]): TensorGroup[] {
  const groups = new Map<string, TensorGroup>();
  for (const { group, format, tensors, parameters, sizeBytes } of all) {
    const key = `${group}\n${format}`;
    const known = groups.get(key) ?? { group, format, tensors: 0, parameters: 0, sizeBytes: 0 };
    groups.set(key, {
      ...known,
      tensors: known.tensors + tensors,
      parameters: known.parameters + parameters,
      sizeBytes: known.sizeBytes + sizeBytes,
    });
  }
  return [...groups.values()].sort(
    (a, b) => groupOrder.indexOf(a.group) - groupOrder.indexOf(b.group),
  );
}

/** The work that a tensor does, by the names that Hugging Face checkpoints use. */
export function groupOf(name: string): string {
  return groupNames.find(([pattern]) => pattern.test(name))?.[1] ?? "other";
}

const groupNames: readonly [RegExp, string][] = [
  [/embed_tokens\.weight$|\bwte\.weight$/, "embedding"],
  [/lm_head\.weight$/, "output"],
  [/norm\w*\.weight$/, "norms"],
  [/attn|attention/, "attention"],
  [/mlp|feed_forward|ffn/, "feed-forward"],
];
const groupOrder = ["embedding", "attention", "feed-forward", "norms", "output", "other"];
