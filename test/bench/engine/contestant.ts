/** What every side of the benchmark can do, and the prompts that all of them get. */

/** Something that continues prompts greedily, whatever the tokens are. Rates are tokens a second. */
export type Contestant = {
  name: string;
  /** Sequences that decode together; the prompts are not part of the rate. */
  decode(work: DecodeWork): Promise<number>;
  /** Tokens of one prompt a second, until the first new one is there. */
  prefill(prompt: readonly number[]): Promise<number>;
};

export type DecodeWork = {
  sequences: number;
  promptTokens: number;
  newTokens: number;
  /** Other seeds make other prompts, so that nothing kept of earlier ones helps. */
  seed: number;
};

/** Ordinary tokens, which every vocabulary in use here has. Prompts of different seeds differ from the first token on. */
export function promptOf(length: number, seed: number): number[] {
  return Array.from({ length }, (_, position) => 300 + ((seed * 7919 + position * 131) % 4000));
}

export function promptsOf({ sequences, promptTokens, seed }: DecodeWork): number[][] {
  return Array.from({ length: sequences }, (_, index) =>
    promptOf(promptTokens, seed * 1000 + index),
  );
}
