/** What the main thread and the engine's worker tell each other. */
import type { ErrorCode } from "../../sdk/protocol/errors.ts";
import { asHubError, HubError } from "../../sdk/protocol/errors.ts";
import type { CallRecord } from "./call-record.ts";
import type { GrammarMasksOptions } from "./grammar-masks.ts";
import type { PromptLogprobs, TokenLogprobs } from "./logprobs.ts";
import type { SchedulerLimits } from "./scheduler.ts";
import type { SchedulerStats } from "./scheduler-stats.ts";
import type { FinishReason, SequenceRequest } from "./sequence.ts";
import type { ModelDims, PackedAdapter } from "./types.ts";

/** A module whose `createRunner(options)` makes the runner inside of the worker. */
export type RunnerModule = { module: string; options: unknown };

export type WorkerOptions = {
  runner: RunnerModule;
  limits: SchedulerLimits;
  prefixCache: boolean;
  grammars?: GrammarMasksOptions | undefined;
  callRecord: CallRecord;
};

export type ToWorker =
  | { type: "add"; request: SequenceRequest }
  | { type: "cancel"; id: number }
  /** The weights lie in shared memory, so this copies no weights. */
  | { type: "adapter"; adapter: PackedAdapter }
  | { type: "forget"; digest: string }
  /** Whether the adapter, once it has a slot, keeps it. */
  | { type: "pin"; digest: string; pinned: boolean }
  | { type: "close" };

/** What a runner can hold, told when it is ready. */
export type EngineFacts = {
  dims: ModelDims;
  blocks: number;
  blockSize: number;
  slots: number;
  rankMax: number;
};

export type CoreStats = SchedulerStats & {
  /** What happened to slots since this was told last. */
  slotEvents: SlotEvent[];
  /** Tokens that each step has computed since then. */
  stepTokens: number[];
};

/** An adapter was copied to where the graph reads it, or made way for another. */
export type SlotEvent =
  | { type: "loaded"; digest: string; ms: number }
  | { type: "evicted"; digest: string };

export type FromWorker =
  | { type: "ready"; facts: EngineFacts }
  | { type: "outputs"; outputs: SequenceOutput[] }
  /** Sequences can use the adapter; or cannot, and why. */
  | { type: "known"; digest: string; error: WireError | undefined }
  /** Nothing reads the weights any more that were to be forgotten under this digest. */
  | { type: "forgotten"; digest: string }
  /** Now and then, and when the work is done: taking them over with each step would cost the main thread more. */
  | { type: "stats"; stats: CoreStats };

/** A sequence's next token, its end, or its failure. */
export type SequenceOutput = {
  id: number;
  token?: number;
  /** With the first token: tokens of the prompt that were cached. */
  cachedTokens?: number;
  /** With the first token, or the vector: how long it waited for its first step. */
  queuedMs?: number;
  /** With the end, unless it is none: how often it lost its blocks. */
  preemptions?: number;
  logprobs?: TokenLogprobs;
  /** With the first token, when they were asked for. */
  promptLogprobs?: readonly PromptLogprobs[];
  /** Of a sequence that is pooled, at its end: `[hiddenSize]`. */
  embedding?: Float32Array;
  finish?: FinishReason;
  error?: WireError;
  /** With the first token: digest of the adapter in the slot that computed it. */
  adapter?: string;
};

/** An error as it crosses threads. */
export type WireError = {
  code: ErrorCode;
  message: string;
  param?: string | undefined;
  retryAfterMs?: number | undefined;
  details?: Record<string, unknown> | undefined;
  /** Our own failure's stack, for the log. */
  cause?: string | undefined;
};

export function toWireError(error: unknown): WireError {
  const { code, message, param, retryAfterMs, details, cause } = asHubError(error);
  return {
    code,
    message,
    param,
    retryAfterMs,
    details,
    cause: cause === undefined ? undefined : show(cause),
  };
}

export function fromWireError({ code, message, ...facts }: WireError): HubError {
  return new HubError(code, message, facts);
}

function show(cause: unknown): string {
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}
