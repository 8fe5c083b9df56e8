/** Reads a whole answer: that it is one, and what it used. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type ReadUsage, readUsage } from "../../ledger/usage.ts";
import type { PassingAnswer } from "../format.ts";
import { readOpenAiErrorBody } from "./errors.ts";
import {
  type OpenAiAnswer,
  type OpenAiChoice,
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
  const { usage, choices } = parseAnswer(bytes).answer;
  const text = { toString: () => choices.map(choiceText).join("") };
  return { usage: readReportedUsage(usage), text };
}

/** @throws HubError `upstream_error` */
export function parseAnswer(bytes: Uint8Array): { json: unknown; answer: OpenAiAnswer } {
  const json = parseJson(bytes);
  const answer = openAiAnswer.safeParse(json);
  if (answer.success) return { json, answer: answer.data };
  throw noAnswer(json, "not a chat completion");
}

function noAnswer(json: unknown, what: string): HubError {
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

/** @throws HubError `upstream_error` */
export function readEmbeddings(bytes: Uint8Array): PassingAnswer {
  const json = parseJson(bytes);
  const answer = openAiVectors.safeParse(json);
  if (!answer.success) throw noAnswer(json, "no embeddings");
  const tokens = answer.data.usage?.prompt_tokens;
  return {
    usage: tokens === undefined ? undefined : { usage: { input: tokens }, inconsistent: false },
    text: "",
  };
}

function choiceText({ message, text }: OpenAiChoice): string {
  if (text != null) return text;
  const calls = message?.tool_calls?.map((call) => call.function?.arguments ?? "") ?? [];
  return [message?.content ?? "", ...calls].join("");
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"));
  } catch {
    return undefined;
  }
}
