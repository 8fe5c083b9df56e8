/** Answers one embeddings request: tokens, weights, a vector for each input. */
import type { EmbeddingsResponse } from "../../sdk/protocol/embeddings.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { adapterDigestHeader, servedModelHeader } from "../../sdk/protocol/http.ts";
import type { ServerLimits } from "../config.ts";
import { deadlineOf, isCancelled } from "../generation/deadline.ts";
import { type Caller, servedName } from "../generation/generate.ts";
import { readWithPauses } from "../generation/pauses.ts";
import type { Outcome, RequestSeries } from "../metrics/request-series.ts";
import type { Embedder } from "./embedder.ts";
import type { EmbeddingsPlan } from "./request.ts";
import { checkDimensions, finish, write } from "./vectors.ts";

export type EmbeddingsParts = {
  limits: Pick<ServerLimits, "embeddingTokensMax">;
  metrics: Pick<RequestSeries, "begin">;
  /** Whether the model was trained so that its vectors may be shortened. */
  matryoshka: boolean;
  monotonicMs: () => number;
};

/** @throws HubError `deadline_exceeded`, `context_length_exceeded` that names the input, and what weights and engine throw */
export async function answerEmbeddings(
  parts: EmbeddingsParts,
  plan: EmbeddingsPlan,
  { embedder, caller }: { embedder: Embedder; caller: Caller },
): Promise<Response> {
  const { metrics, matryoshka } = parts;
  const startMs = parts.monotonicMs();
  checkDimensions(plan.dimensions, { width: embedder.width, shortened: matryoshka });
  const prompts = await toPrompts(embedder, plan, parts);
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  const deadline = deadlineOf(caller, parts.monotonicMs() - startMs);
  const { signal } = deadline;
  const { adapter, embed, release } = await embedder.acquire(signal).catch((error) => {
    deadline.end();
    throw deadline.toldAs(error);
  });
  const track = metrics.begin({ startMs, adapter, promptTokens });
  let outcome: Outcome = "error";
  try {
    const { dimensions, normalizes = embedder.normalizes, encoding } = plan;
    const vectors = await embed(prompts, signal, (choice, facts) =>
      track.progress({ choice, tokens: 0, ...facts }),
    );
    outcome = "stop";
    const answer: EmbeddingsResponse = {
      object: "list",
      data: vectors.map((vector, index) => ({
        object: "embedding",
        index,
        embedding: write(finish(vector, { dimensions, normalizes }), encoding),
      })),
      model: servedName(plan, caller),
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
    const headers: Record<string, string> = { [servedModelHeader]: answer.model };
    if (adapter !== undefined) headers[adapterDigestHeader] = adapter;
    return Response.json(answer, { headers });
  } catch (error) {
    const told = deadline.toldAs(error);
    if (isCancelled(told)) outcome = "abort";
    throw told;
  } finally {
    deadline.end();
    track.end(outcome);
    release();
  }
}

/** The tokens of each input. What a text spells as a control token is one, as in the reference. */
function toPrompts(
  { tokenizer, vocabSize, tokensMax }: Embedder,
  plan: EmbeddingsPlan,
  { limits, monotonicMs }: Pick<EmbeddingsParts, "limits" | "monotonicMs">,
): Promise<(readonly number[])[]> {
  const { embeddingTokensMax: allTokensMax } = limits;
  let left = allTokensMax;
  const read = (input: EmbeddingsPlan["inputs"][number], index: number): readonly number[] => {
    const param = `input[${index}]`;
    const tokens = typeof input === "string" ? tokenizer.encode(input, plan) : input;
    if (tokens.length === 0) {
      throw new HubError("invalid_value", `Invalid '${param}': it has no tokens.`, { param });
    }
    const unknown = tokens.find((token) => token >= vocabSize);
    if (unknown !== undefined) {
      throw new HubError(
        "number_out_of_range",
        `Invalid '${param}': the model has ${vocabSize} tokens, and ${unknown} is none of them.`,
        { param },
      );
    }
    if (tokens.length > tokensMax) {
      throw new HubError(
        "context_length_exceeded",
        `This model's maximum context length is ${tokensMax} tokens. However, '${param}' has ${tokens.length} tokens. Please cut it into shorter ones.`,
        { param, details: { contextLength: tokensMax, promptTokens: tokens.length } },
      );
    }
    left -= tokens.length;
    if (left < 0) {
      throw new HubError(
        "request_too_large",
        `The inputs have more than ${allTokensMax} tokens together. Send them in several requests.`,
        { param: "input" },
      );
    }
    return tokens;
  };
  return readWithPauses(plan.inputs, read, monotonicMs);
}
