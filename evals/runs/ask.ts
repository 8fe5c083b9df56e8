/** Asks one question through the gateway, as any client would, and tries again when that may help. */
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { type ChatMessage, chatUsage } from "../../sdk/protocol/chat.ts";
import { errorBody } from "../../sdk/protocol/errors.ts";
import {
  abortableRequest,
  adapterDigestHeader,
  type Fetcher,
  inProcessOrigin,
  servedModelHeader,
  tagsHeader,
  taskHeader,
} from "../../sdk/protocol/http.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import { usdString } from "../../sdk/protocol/money.ts";
import type { Limits } from "../config.ts";

export type Question = {
  model: string;
  messages: ChatMessage[];
  maxTokens: number;
  task: string;
  runId: string;
  key: string;
};

/** What the gateway said beside the text; each absent when it did not say. */
export type AnswerFacts = {
  model?: string;
  adapterDigest?: Sha256;
  costUsd?: string;
  inputTokens?: number;
  outputTokens?: number;
  latencyMs?: number;
};

/** `hopeless`: every other row would fail the same way, as with a model that is not there. */
export type Answered =
  | { type: "answered"; text: string; facts: AnswerFacts }
  | { type: "errored"; error: string; hopeless: boolean; facts: AnswerFacts };

export type AskParts = {
  gateway: Fetcher;
  limits: Pick<
    Limits,
    "attemptsMax" | "rowTimeoutMs" | "retryDelayMs" | "retryDelayMsMax" | "answerBytesMax"
  >;
  /** A clock in milliseconds that only goes forward. */
  monotonicNow: () => number;
  random: () => number;
};

/**
 * Sends the question until it is answered or `attemptsMax` is reached. Retries what the gateway marks as
 * worth it, and failures of the connection, waiting as long as `retry-after` says.
 * @throws the signal's reason, and nothing else: whatever goes wrong otherwise is an `errored` answer
 */
export async function ask(
  question: Question,
  parts: AskParts,
  signal: AbortSignal,
): Promise<Answered> {
  for (let attempt = 1; ; attempt++) {
    const outcome = await askOnce(question, parts, signal);
    signal.throwIfAborted();
    if (outcome.type !== "retry") return outcome;
    if (attempt === parts.limits.attemptsMax) {
      const error = `${outcome.error} (${attempt} attempts)`;
      return { type: "errored", error, hopeless: false, facts: {} };
    }
    await sleep(retryDelay(outcome.retryAfterMs, attempt, parts), undefined, { signal });
  }
}

type Retry = { type: "retry"; error: string; retryAfterMs: number | undefined };

async function askOnce(
  question: Question,
  parts: AskParts,
  signal: AbortSignal,
): Promise<Answered | Retry> {
  const timeout = AbortSignal.timeout(parts.limits.rowTimeoutMs);
  const request = toRequest(question, anySignal([signal, timeout]));
  const startedAt = parts.monotonicNow();
  try {
    const response = await parts.gateway.fetch(request);
    const text = await readText(response, parts.limits.answerBytesMax);
    const facts = { ...readFacts(response.headers), latencyMs: parts.monotonicNow() - startedAt };
    return response.ok ? readAnswer(text, facts) : readFailure(response, text);
  } catch (cause) {
    const error = timeout.aborted
      ? `no answer within ${parts.limits.rowTimeoutMs} ms`
      : `the gateway could not be asked: ${cause instanceof Error ? cause.message : String(cause)}`;
    return { type: "retry", error, retryAfterMs: undefined };
  }
}

function toRequest(question: Question, signal: AbortSignal): Request {
  return abortableRequest(`${inProcessOrigin}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${question.key}`,
      "content-type": "application/json",
      [taskHeader]: question.task,
      [tagsHeader]: `eval=${question.runId}`,
    },
    body: JSON.stringify({
      model: question.model,
      messages: question.messages,
      max_tokens: question.maxTokens,
      temperature: 0,
    }),
    signal,
  });
}

function readFacts(headers: Headers): AnswerFacts {
  const model = headers.get(servedModelHeader) ?? undefined;
  const adapterDigest = sha256.safeParse(headers.get(adapterDigestHeader)).data;
  const costUsd = usdString.safeParse(headers.get("x-switchyard-cost-usd")).data;
  return {
    ...(model === undefined ? {} : { model }),
    ...(adapterDigest === undefined ? {} : { adapterDigest }),
    ...(costUsd === undefined ? {} : { costUsd }),
  };
}

function readAnswer(text: string, facts: AnswerFacts): Answered {
  const parsed = completion.safeParse(parseJson(text));
  if (!parsed.success) {
    const error = "the answer is not a chat completion";
    return { type: "errored", error, hopeless: false, facts };
  }
  const { choices, usage } = parsed.data;
  const withUsage: AnswerFacts = usage
    ? { ...facts, inputTokens: usage.prompt_tokens, outputTokens: usage.completion_tokens }
    : facts;
  const [choice] = choices;
  if (typeof choice?.message.content === "string") {
    return { type: "answered", text: choice.message.content, facts: withUsage };
  }
  const error = `the answer has no text (finish_reason ${choice?.finish_reason ?? "unknown"})`;
  return { type: "errored", error, hopeless: false, facts: withUsage };
}

function readFailure(response: Response, text: string): Answered | Retry {
  const body = errorBody.safeParse(parseJson(text)).data?.error;
  const error = body
    ? `${body.code ?? response.status}: ${body.message}`
    : `the gateway answered ${response.status}`;
  const worthIt = response.headers.get("x-should-retry") !== "false";
  if (worthIt && (response.status === 429 || response.status >= 500)) {
    return { type: "retry", error, retryAfterMs: readRetryAfter(response.headers) };
  }
  const hopeless = hopelessStatuses.has(response.status) || hopelessCodes.has(body?.code ?? "");
  return { type: "errored", error, hopeless, facts: {} };
}

function readRetryAfter(headers: Headers): number | undefined {
  const milliseconds = Number.parseFloat(headers.get("retry-after-ms") ?? "");
  if (Number.isFinite(milliseconds)) return milliseconds;
  const seconds = Number.parseFloat(headers.get("retry-after") ?? "");
  return Number.isFinite(seconds) ? seconds * 1000 : undefined;
}

/** What the server asked for, within its bound; else twice as long each time, half of it by chance. */
function retryDelay(
  retryAfterMs: number | undefined,
  attempt: number,
  { limits, random }: AskParts,
): number {
  const wanted = retryAfterMs ?? limits.retryDelayMs * 2 ** (attempt - 1) * (0.5 + random() / 2);
  return Math.min(Math.max(0, wanted), limits.retryDelayMsMax);
}

/** @throws Error when the body is larger than its bound */
async function readText(response: Response, bytesMax: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw new Error(`the answer is larger than ${bytesMax} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const hopelessStatuses = new Set([401, 403, 404]);
const hopelessCodes = new Set(["insufficient_quota", "no_price", "unsupported_model"]);

const completion = z.object({
  choices: z
    .array(
      z.object({
        message: z.object({ content: z.string().nullish() }),
        finish_reason: z.string().nullish(),
      }),
    )
    .min(1),
  usage: chatUsage.nullish(),
});
