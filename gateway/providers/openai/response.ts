/** Reads a whole answer: that it is one, and what it used. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type ReadUsage, readUsage } from "../../ledger/usage.ts";
import type { PassingAnswer } from "../format.ts";
import { readOpenAiErrorBody } from "./errors.ts";
import { parseJsonOfPython } from "./python-json.ts";
import {
  type OpenAiAnswer,
  type OpenAiChoice,
  type OpenAiVectors,
  openAiAnswer,
  openAiUsage,
  openAiVectors,
} from "./schema.ts";

/**
 * The bytes go to the client as they came, the upstream's own `model` included; what answered in our
 * names is told in `x-switchyard-model`.
 * @throws HubError `upstream_error`; some upstreams answer 200 with an `error`, which is no success
 */
export function readOpenAiAnswer(bytes: Uint8Array): PassingAnswer {
  const { json, answer } = parseAnswer(bytes);
  const { usage, choices } = answer;
  const text = { toString: () => choices.map(choiceText).join("") };
  return { usage: readReportedUsage(usage), text, whole: json };
}

/** @throws HubError `upstream_error` */
export function parseAnswer(bytes: Uint8Array): { json: unknown; answer: OpenAiAnswer } {
  const json = parseJson(bytes);
  const answer = openAiAnswer.safeParse(json);
  if (answer.success) return { json, answer: answer.data };
  throw noAnswer(json, "not a chat completion");
}

export function noAnswer(json: unknown, what: string): HubError {
  const told = readOpenAiErrorBody(json)?.message;
  return new HubError(
    "upstream_error",
    told === undefined
      ? `The upstream's answer is ${what}.`
      : `The upstream answered with an error: ${told}`,
    { unquoted: `The upstream's answer is ${told === undefined ? what : "an error"}.` },
  );
}

/** `undefined` when the upstream did not tell both sums: unknown, and not zero. */
export function readReportedUsage(reported: unknown): ReadUsage | undefined {
  const parsed = openAiUsage.safeParse(reported);
  if (!parsed.success) return undefined;
  const { prompt_tokens, completion_tokens, total_tokens } = parsed.data;
  return readUsage({
    ...parsed.data,
    total_tokens: total_tokens ?? prompt_tokens + completion_tokens,
  });
}

/**
 * Clients ask for base64 unless they are told otherwise, and read nothing else; some servers know numbers alone.
 * @throws HubError `upstream_error`
 */
export function readEmbeddings(bytes: Uint8Array, { body }: { body: unknown }): PassingAnswer {
  const json = parseJson(bytes);
  const answer = openAiVectors.safeParse(json);
  if (!answer.success) throw noAnswer(json, "no embeddings");
  const tokens = answer.data.usage?.prompt_tokens;
  const vectors = toAskedForm(answer.data, (body as { encoding_format?: unknown }).encoding_format);
  return {
    ...(vectors && { bytes: Buffer.from(JSON.stringify(vectors)) }),
    usage: tokens === undefined ? undefined : { usage: { input: tokens }, inconsistent: false },
    text: "",
  };
}

/** `undefined` where all vectors have the form that was asked for. */
function toAskedForm(answer: OpenAiVectors, encoding: unknown): OpenAiVectors | undefined {
  let changed = false;
  const data = answer.data.map((entry) => {
    const embedding =
      encoding === "base64" ? toBase64(entry.embedding) : toNumbers(entry.embedding);
    changed ||= embedding !== entry.embedding;
    return { ...entry, embedding };
  });
  return changed ? { ...answer, data } : undefined;
}

function toBase64(vector: unknown): unknown {
  if (!Array.isArray(vector) || !vector.every((value) => typeof value === "number")) return vector;
  return Buffer.from(Float32Array.from(vector).buffer).toString("base64");
}

function toNumbers(vector: unknown): unknown {
  if (typeof vector !== "string") return vector;
  const bytes = Buffer.from(vector, "base64");
  const numbers = new Float32Array(Math.floor(bytes.length / Float32Array.BYTES_PER_ELEMENT));
  new Uint8Array(numbers.buffer).set(bytes.subarray(0, numbers.byteLength));
  return [...numbers];
}

function choiceText({ message, text }: OpenAiChoice): string {
  if (text != null) return text;
  const { content, refusal, reasoning_content, reasoning, tool_calls } = message ?? {};
  const calls = tool_calls?.map((call) => call.function?.arguments ?? "") ?? [];
  return [reasoning_content ?? reasoning ?? "", content ?? "", refusal ?? "", ...calls].join("");
}

export function parseJson(bytes: Uint8Array): unknown {
  return parseJsonOfPython(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
}
