/** Reads a whole answer: that it is one, and what it used. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type ReadUsage, readUsage } from "../../ledger/usage.ts";
import { type CohereAnswer, cohereAnswer, cohereError, cohereUsage } from "./schema.ts";

/** @throws HubError `upstream_error`; a message with status 200 is no success */
export function parseCohereAnswer(bytes: Uint8Array): CohereAnswer {
  const json = parseJson(bytes);
  const answer = cohereAnswer.safeParse(json);
  if (answer.success) return answer.data;
  throw noAnswer(json, "none of Cohere's");
}

export function noAnswer(json: unknown, what: string): HubError {
  const told = cohereError.safeParse(json).data?.message;
  const message =
    told === undefined
      ? `The upstream's answer is ${what}.`
      : `The upstream answered with an error: ${told.slice(0, 2000)}`;
  const unquoted = `The upstream's answer is ${told === undefined ? what : "an error"}.`;
  return new HubError("upstream_error", message, { unquoted });
}

/** What is billed; where that is not told, what was read and written. `undefined` when neither is. */
export function readCohereUsage(reported: unknown): ReadUsage | undefined {
  const parsed = cohereUsage.safeParse(reported);
  if (!parsed.success) return undefined;
  const { billed_units, tokens, cached_tokens } = parsed.data;
  const prompt_tokens = billed_units?.input_tokens ?? tokens?.input_tokens;
  const completion_tokens = billed_units?.output_tokens ?? tokens?.output_tokens;
  if (prompt_tokens == null || completion_tokens == null) return undefined;
  return readUsage({
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    // Cached are tokens of the whole prompt, of which what is billed is a part.
    ...(cached_tokens != null && {
      prompt_tokens_details: { cached_tokens: Math.min(cached_tokens, prompt_tokens) },
    }),
  });
}

export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
  } catch {
    return undefined;
  }
}
