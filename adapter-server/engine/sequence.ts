/** One sequence that is decoded: what is asked for, how far it is, and what its client hears. */
import type { Grammar } from "../output/grammar/matchers.ts";
import type { PromptLogprobs, TokenLogprobs } from "./logprobs.ts";
import type { Pooling } from "./pooling.ts";
import type { PromptLookup } from "./prompt-lookup.ts";
import type { Sampling } from "./sampler.ts";

/** What is to be decoded. */
export type SequenceRequest = {
  id: number;
  prompt: readonly number[];
  /** What is wanted is one vector made of the prompt's hidden states, and not a single token. */
  pooling?: Pooling;
  /** At least 1, and 0 where a vector is wanted; prompt and output together fit the context. */
  maxTokens: number;
  sampling: Sampling;
  /** What the output has to match, up to its end. */
  grammar?: Grammar | undefined;
  /** How many of the likeliest tokens to tell with each token; absent tells no log-probabilities at all. */
  logprobs?: number | undefined;
  /** The same of each token of the prompt but the first, before which there is nothing. */
  promptLogprobs?: number | undefined;
  /** Tokens that end the sequence. */
  stopIds: readonly number[];
  /** Digest of the adapter, absent for the base. */
  adapter?: string | undefined;
  /** Computed in calls of its own, because the engine died in a call with it before. */
  apart?: boolean;
  /** On whose behalf; tenants that wait share the engine in equal parts. */
  tenant: string;
  /** Choices of one request have the same number: they are alike but for their draws, and share their prompt. */
  family?: number | undefined;
  /** Lower is earlier; 0 when absent. */
  priority?: number;
  /** From its arrival on; what is not complete by then is ended. Absent: no end. */
  timeoutMs?: number | undefined;
};

export type FinishReason = "stop" | "length";

/** A token that was chosen, and how likely it was where that is asked for. */
export type Chosen = { token: number; logprobs?: TokenLogprobs };

/** What a sequence's client has to hear. */
export type SequenceEvent = {
  id: number;
  token?: number;
  /** With the first token: tokens of the prompt that were cached and not computed for it. */
  cachedTokens?: number;
  /** With the first token, or the vector: how long it waited for its first step. */
  queuedMs?: number;
  /** With the end, unless it is none: how often it lost its blocks. */
  preemptions?: number;
  logprobs?: TokenLogprobs;
  /** With the first token, when they were asked for: of the prompt's second token and all behind it. */
  promptLogprobs?: readonly PromptLogprobs[];
  /** Of a sequence that is pooled, with its end. */
  embedding?: Float32Array;
  finish?: FinishReason;
  error?: unknown;
};

export type Sequence = SequenceRequest & {
  priority: number;
  /** The priority that it runs as: its own, or the one that it was let in before. */
  level: number;
  /** Order of arrival: the smaller, the older. */
  arrival: number;
  startedAtMs: number;
  /** When it first ran; absent before. */
  ranAtMs: number | undefined;
  /** How often it lost its blocks to others. */
  preemptions: number;
  /** The step in which it last decoded, by their number; 0 before. */
  steppedAt: number;
  /** Prompt and output. */
  tokens: number[];
  /** Tokens whose keys and values are in the KV cache. */
  computed: number;
  /** Of these, the ones before the first that was computed with the weights for single sequences: others may begin with them. */
  sharedMax: number;
  /** What is found out of the prompt's second token and those behind it, where that is asked for. */
  scored: PromptLogprobs[];
  /** Of its full blocks, as far as somebody asked. */
  blockNames: string[];
  /** Tokens of the prompt that were cached when it first ran; absent before that. */
  cachedTokens: number | undefined;
  slot: number;
  /** What it may say next. */
  lookup: PromptLookup;
  /** Of its first tokens, how many its tenant was charged with. */
  paid: number;
  /** While it waits: who computes what both begin with, and up to which token that is worth waiting for. */
  behind: { ahead: Sequence; until: number } | undefined;
  /** Since when it would run if it had a slot. */
  slotMissedAtMs: number | undefined;
  /** Since when it would run if there were places for all choices of its request. */
  placesMissedAtMs: number | undefined;
};

/** Tokens that are still to be computed before the next one can be chosen. */
export function remaining(sequence: Sequence): number {
  return sequence.tokens.length - sequence.computed;
}

/** Tokens of the prompt of which it is not yet known how likely they were, and should be. */
export function unscored({ prompt, promptLogprobs, scored }: Sequence): number {
  return promptLogprobs === undefined ? 0 : prompt.length - 1 - scored.length;
}

/** Whether its client has heard a token, so that it can no longer be sent away to try again. */
export function hasSpoken(sequence: Sequence): boolean {
  return sequence.tokens.length > sequence.prompt.length;
}
