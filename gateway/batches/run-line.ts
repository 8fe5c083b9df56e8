/** One line of a batch: asked through the gateway's own door, and asked again where a client would try again. */
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import {
  abortableRequest,
  inProcessOrigin,
  tagsHeader,
  taskHeader,
} from "../../sdk/protocol/http.ts";
import { callAs } from "./callers.ts";
import type { BatchLine } from "./lines.ts";
import type { Batch } from "./store.ts";

export type Ask = (request: Request) => Response | Promise<Response>;

export type RunLimits = {
  /** Times that a line is sent whose model fails. */
  batchAttemptsMax: number;
  batchRetryMs: number;
  batchRetryMsMax: number;
};

export type RunOptions = {
  batch: Batch;
  ask: Ask;
  limits: RunLimits;
  /** From 0 to 1; spreads what failed together. */
  random: () => number;
  /** Ends the waiting between two tries. */
  halt: AbortSignal;
  /** Breaks off what is under way. */
  kill: AbortSignal;
};

/** What became of a line, as its batch's output or error file tells it. */
export type Outcome = { succeeded: boolean; content: string };

/** @returns nothing when the batch was halted before there was an answer */
export async function runLine(line: BatchLine, options: RunOptions): Promise<Outcome | undefined> {
  const { halt, kill, limits, random } = options;
  for (let [tries, failures] = [0, 0]; !halt.aborted; tries++) {
    const answer = await askOnce(line, options);
    if (kill.aborted) return undefined;
    const verdict = judge(answer);
    if (verdict === "failed") failures++;
    if (verdict === "final" || failures >= limits.batchAttemptsMax)
      return toOutcome(line, answer, options.batch);
    const backoffMs = Math.min(
      limits.batchRetryMs * 2 ** Math.min(tries, 30),
      limits.batchRetryMsMax,
    );
    // Never before the moment that was named, and not all at that moment.
    const waitMs = (answer.retryAfterMs ?? backoffMs) + backoffMs * random();
    await sleep(Math.min(waitMs, timerMsMax), undefined, { signal: halt }).catch(() => {});
  }
  return undefined;
}

/** A line that was not run: `batch_expired`, `batch_cancelled`, or `batch_output_too_large`. */
export function unexecuted(line: BatchLine, batch: Batch, code: keyof typeof reasons): Outcome {
  const error = { code, message: reasons[code] };
  return {
    succeeded: false,
    content: JSON.stringify({ ...headOf(line, batch), response: null, error }),
  };
}

type Answer = {
  status: number;
  requestId: string | null;
  text: string;
  shouldRetry: boolean;
  retryAfterMs: number | undefined;
};

async function askOnce(line: BatchLine, { batch, ask, kill }: RunOptions): Promise<Answer> {
  const request = abortableRequest(`${inProcessOrigin}${batch.endpoint}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(batch.tags !== null && { [tagsHeader]: batch.tags }),
      ...(batch.task !== null && { [taskHeader]: batch.task }),
    },
    body: line.body(),
    signal: kill,
  });
  const response = await ask(callAs(request, { batchId: batch.id, keyId: batch.key_id }));
  const retryAfter = response.headers.get("retry-after-ms");
  return {
    status: response.status,
    requestId: response.headers.get("x-request-id"),
    text: await response.text(),
    shouldRetry: response.headers.get("x-should-retry") === "true",
    retryAfterMs: retryAfter === null ? undefined : Number(retryAfter),
  };
}

/**
 * `wait` for what passes by itself: limits, and a gateway that is full or whose stores are away. `failed` is
 * tried again some times only: a request may be what makes its model fail.
 */
function judge({ status, shouldRetry, text }: Answer): "final" | "wait" | "failed" {
  if (status < 400 || !shouldRetry) return "final";
  const { error } = errorShape.safeParse(parse(text)).data ?? {};
  if (error?.code === "rate_limit_exceeded") {
    const { requested = 0, limit = Number.POSITIVE_INFINITY } = error.details ?? {};
    // It is larger than the limit itself: no waiting helps.
    return requested > limit ? "final" : "wait";
  }
  return ourOwnState.has(error?.code ?? "") ? "wait" : "failed";
}

function toOutcome(line: BatchLine, { status, requestId, text }: Answer, batch: Batch): Outcome {
  // Bytes pass as they came where they are one line; numbers in them may not all survive as doubles.
  const body = /[\r\n]/.test(text) ? JSON.stringify(parse(text)) : text;
  const head = JSON.stringify(headOf(line, batch)).slice(0, -1);
  const id = JSON.stringify(requestId);
  return {
    succeeded: status < 400,
    content: `${head},"response":{"status_code":${status},"request_id":${id},"body":${body || "null"}},"error":null}`,
  };
}

/** The same however often a line is run. */
function headOf({ number, customId }: BatchLine, { id }: Batch) {
  return { id: `batch_req_${id.slice(id.indexOf("_") + 1)}_${number}`, custom_id: customId };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Timers that are set for longer end at once; limits have windows of up to a month. */
const timerMsMax = 2 ** 31 - 1;

const ourOwnState = new Set([
  "server_is_overloaded",
  "database_unavailable",
  "storage_full",
  "shutting_down",
]);

const reasons = {
  batch_expired: "This request could not be executed before the completion window expired.",
  batch_cancelled: "This request was not executed, because the batch was cancelled.",
  batch_output_too_large:
    "This request was not executed, because the results of the batch are as large as they may be.",
};

const errorShape = z.object({
  error: z.object({
    code: z.string().nullish(),
    details: z
      .object({ requested: z.number().optional(), limit: z.number().optional() })
      .optional(),
  }),
});
