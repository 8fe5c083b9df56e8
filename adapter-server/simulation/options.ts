/** What a simulation is told: the load, what the engine may hold, and what a step costs. */
import { z } from "zod";

const count = z.number().int().min(1);
const milliseconds = z.number().min(0).max(1e6);

/** What is kept of each request takes memory until the report. */
export const requestsMax = 500_000;

/** Tokens of a prompt or an answer. */
const tokenCount = z.discriminatedUnion("type", [
  z.object({ type: z.literal("fixed"), tokens: count.max(1e6) }),
  /** Evenly spread, both ends included. */
  z.object({ type: z.literal("uniform"), from: count.max(1e6), to: count.max(1e6) }),
  /** Most are short and few long; none is longer than eight times the mean. */
  z.object({ type: z.literal("exponential"), mean: count.max(1e5) }),
]);
export type TokenCount = z.infer<typeof tokenCount>;

export const simulationOptions = z
  .object({
    seed: z.number().int().min(0).default(1),
    /** How long requests come; those that came are decoded to their end. */
    seconds: z.number().positive().max(86_400),
    /** Of all tenants but the one that floods, unless there are clients. */
    requestsPerSecond: z.number().positive().max(10_000),
    /** Clients that ask one request after the other, in the place of a rate; 0 for none. */
    clients: z.number().int().min(0).max(10_000),
    promptTokens: tokenCount,
    outputTokens: tokenCount,
    /** Tokens with which all prompts of a tenant for an adapter begin. */
    sharedTokens: z.number().int().min(0).max(1e5),
    /** Answers to each request, which share its prompt. */
    choices: count.max(128),
    adapters: z.number().int().min(0).max(100_000),
    /** The k-th adapter is asked for as often as k to minus this; 0 is all alike. */
    zipf: z.number().min(0).max(5),
    tenants: count.max(1000),
    /** Requests a second of one tenant more. */
    floodPerSecond: z.number().min(0).max(10_000),
    engine: z
      .object({
        slots: z.number().int().min(0).max(256),
        sequencesMax: count.max(1024),
        stepTokensMax: count.max(100_000),
        prefillChunkMax: count.max(100_000),
        promptMsMax: z.number().int().min(0),
        kvCacheTokens: count.min(64).max(1e8),
        waitingMax: count.max(1e6),
        waitMsMax: count,
        slotWaitMsMax: count,
        priorityAgeMs: count,
        prefixCache: z.boolean(),
      })
      .refine(({ stepTokensMax, sequencesMax }) => stepTokensMax >= sequencesMax, {
        path: ["stepTokensMax"],
        message: "must be at least sequencesMax, so that every sequence can decode in every step",
      }),
    /** Milliseconds of a step, and of what comes before it. */
    cost: z.object({
      step: milliseconds,
      /** For each sequence that decodes. */
      row: milliseconds,
      /** For each token of a prompt. */
      promptToken: milliseconds,
      /** For each adapter with rows in the step. */
      adapter: milliseconds,
      /** For each adapter that is copied into a slot. */
      load: milliseconds,
    }),
  })
  .refine(
    ({ seconds, requestsPerSecond, floodPerSecond, choices }) =>
      seconds * (requestsPerSecond + floodPerSecond) * choices <= requestsMax,
    { path: ["seconds"], message: `times the requests a second must be at most ${requestsMax}` },
  );
export type SimulationOptions = z.infer<typeof simulationOptions>;
