/** What evals tells beside its runs: the datasets that were pushed, and each candidate's answer to each row. */
import { z } from "zod";
import { projectId, sha256 } from "./ids.ts";

/** A pinned file of rows. Its SHA-256 is its identity: other bytes are another dataset. */
export const dataset = z.strictObject({
  sha256,
  projectId,
  name: z.string().min(1).max(128),
  rows: z.int().positive(),
  sizeBytes: z.int().positive(),
  createdBy: z.string(),
  createdAt: z.iso.datetime({ offset: true }),
});
export type Dataset = z.infer<typeof dataset>;

/**
 * One candidate's answer to one row. Either `correct` is present, or `error` says why the row could not
 * be judged; never both, and never neither.
 */
export const evalAnswer = z.strictObject({
  /** `<position of the candidate>.<row>`: the cursor of lists. */
  id: z.string(),
  candidate: z.string(),
  /** Counted from 0, in the order of the dataset. */
  row: z.int().nonnegative(),
  reference: z.string(),
  answer: z.string().optional(),
  correct: z.boolean().optional(),
  error: z.string().optional(),
  /** The model that the gateway says has answered. */
  model: z.string().optional(),
  adapterDigest: sha256.optional(),
  costUsd: z.string().optional(),
  inputTokens: z.int().optional(),
  outputTokens: z.int().optional(),
  latencyMs: z.number().optional(),
});
export type EvalAnswer = z.infer<typeof evalAnswer>;
