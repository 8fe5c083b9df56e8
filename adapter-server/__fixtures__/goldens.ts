/** Goldens of the shared fixtures: one prompt, and what the float32 reference made of it. */
import { expect } from "vitest";
import { type DemoRunner, generate, largestDifference } from "./demo-model.ts";

export type GoldenCase = {
  prompt: number[];
  /** Logits of the last position: float32, little-endian, in base64. */
  logits_f32le_b64: string;
  greedy: { tokens: number[]; gaps: number[] };
};

/** Logits have a standard deviation of 3 to 4; the reference's own implementations differ by 4e-5. */
export const goldenTolerance = 1e-3;

/** Logits within the tolerance, and the same greedy tokens until two of them come closer than that. */
export async function expectGoldens({ runner }: DemoRunner, cases: GoldenCase[], slot: number): Promise<void> {
  const prompts = cases.map(({ prompt, greedy }) => ({
    tokens: prompt,
    slot,
    tokensMax: greedy.tokens.length,
  }));
  const generated = await generate(runner, prompts, { ends: [] });
  cases.forEach(({ logits_f32le_b64, greedy }, index) => {
    const bytes = new Uint8Array(Buffer.from(logits_f32le_b64, "base64"));
    const logits = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    expect(largestDifference(generated[index]!.firstLogits, logits)).toBeLessThan(goldenTolerance);
    const tie = greedy.gaps.findIndex((gap) => gap < goldenTolerance);
    const certain = tie === -1 ? greedy.tokens.length : tie;
    expect(generated[index]!.tokens.slice(0, certain)).toEqual(greedy.tokens.slice(0, certain));
  });
}
