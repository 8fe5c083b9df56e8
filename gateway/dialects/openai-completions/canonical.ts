/** A request to continue a text in canonical form, for providers that answer chats alone. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";

/** OpenAI's, where a request names no most. */
export const defaultTokens = 16;

/**
 * The text is what a user says; that it should go on as if it were its own is not to be had from a chat.
 * @throws HubError naming the field that is wrong, or that has no place in a chat
 */
export function readCanonicalCompletion(body: Readonly<Record<string, unknown>>): CanonicalRequest {
  const request = parseOrThrow(completionBody, body);
  const { prompt, max_tokens, stop, stream, n, user } = request;
  const [text, second] = [prompt].flat();
  if (typeof text !== "string" || second !== undefined) {
    throw unsupported("prompt", "one text, and neither several nor tokens by their ids");
  }
  for (const field of ["echo", "suffix", "logprobs", "best_of"] as const) {
    const value = request[field];
    if (value != null && value !== false && !(field === "best_of" && value === (n ?? 1))) {
      throw unsupported(field, "no such field");
    }
  }
  return {
    model: request.model,
    instructions: [],
    turns: [{ role: "user", parts: [{ type: "text", text }] }],
    tools: [],
    outputTokensMax: max_tokens ?? defaultTokens,
    choices: n ?? 1,
    ...present("temperature", request.temperature),
    ...present("topP", request.top_p),
    ...present("frequencyPenalty", request.frequency_penalty),
    ...present("presencePenalty", request.presence_penalty),
    ...present("logitBias", request.logit_bias),
    ...present("seed", request.seed),
    stop: [stop ?? []].flat(),
    ...present("user", user),
    stream: stream ?? false,
    rest: Object.fromEntries(
      Object.entries(body).filter(([name, value]) => !readFields.has(name) && value != null),
    ),
  };
}

/** A field that is there only when it has a value. */
function present<K extends string, V>(name: K, value: V | null | undefined): { [key in K]?: V } {
  return (value == null ? {} : { [name]: value }) as { [key in K]?: V };
}

function unsupported(param: string, takes: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}'. This model's provider answers chats, and takes ${takes}.`,
    { param },
  );
}

const number = z.number().nullish();
const completionBody = z.object({
  model: z.string(),
  prompt: z.union([z.string(), z.array(z.unknown()).min(1)]),
  max_tokens: number,
  n: number,
  best_of: number,
  echo: z.boolean().nullish(),
  suffix: z.string().nullish(),
  logprobs: number,
  temperature: number,
  top_p: number,
  frequency_penalty: number,
  presence_penalty: number,
  logit_bias: z.record(z.string(), z.number()).nullish(),
  seed: number,
  stop: z.union([z.string(), z.array(z.string())]).nullish(),
  user: z.string().nullish(),
  stream: z.boolean().nullish(),
});
/** What is read here, or acted on by the gateway itself. */
const readFields: ReadonlySet<string> = new Set([
  ...Object.keys(completionBody.shape),
  "stream_options",
  "adapters",
]);
