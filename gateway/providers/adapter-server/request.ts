/** The request as an adapter-server gets it: weights named by digest, never by a name that could move. */
import { servedModelHeader, tenantHeader } from "../../../sdk/protocol/http.ts";
import type { Target } from "../../routing/resolve.ts";
import type { SpokenRequest } from "../format.ts";
import { writeOpenAiRequest } from "../openai/request.ts";
import type { CallContext, ProviderRequest } from "../provider.ts";

/**
 * The client's `adapters` never passes as it is: the operator key that we present would open any
 * project's weights, so only what was resolved with the client's eyes goes out. Nor does its `priority`: with that
 * key each client could come before the others.
 */
export function writeAdapterServerRequest(
  call: SpokenRequest,
  target: Target,
  context: CallContext & { operatorKey: string | undefined },
): ProviderRequest {
  const { model, adapter, mix } = target;
  const body: Record<string, unknown> = { ...call.body };
  delete body.adapters;
  const dropped = [...bookkeeping, "priority"].filter((field) => body[field] != null);
  for (const field of dropped) delete body[field];
  if (context.canWait && call.format !== "openai-embeddings") body.priority = afterOthers;
  if (mix) {
    body.adapters = mix.map(({ digest, weight }) => ({ model: `sha256-${digest}`, weight }));
  }
  const request = writeOpenAiRequest(
    { ...call, body },
    {
      upstreamModel: adapter
        ? `${model.upstreamModel}@sha256-${adapter.digest}`
        : model.upstreamModel,
      apiKey: context.operatorKey,
    },
  );
  return {
    ...request,
    headers: {
      ...request.headers,
      [tenantHeader]: context.projectId,
      [servedModelHeader]: target.name,
      "x-request-id": context.requestId,
    },
    dropped: [...dropped, ...request.dropped],
  };
}

/** Lower is earlier, and 0 is what is not told; what waits long enough still gets its turn. */
const afterOthers = 5;

/** Fields about OpenAI's own storage and billing: nothing that an answer depends on. */
const bookkeeping = [
  "store",
  "metadata",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
];
