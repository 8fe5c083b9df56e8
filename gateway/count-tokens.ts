/** Counts a prompt's tokens without sending it to a model: by the provider where it counts, else as near as can be told. */
import { anySignal } from "../sdk/protocol/any-signal.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import type { AppParts } from "./app.ts";
import { asItCame, translate } from "./attempts/conversation.ts";
import { toUpstreamError } from "./attempts/failure.ts";
import type { Upstream } from "./attempts/upstream.ts";
import type { Call } from "./dialects/dialect.ts";
import type { ReserveRequest } from "./metering/types.ts";
import type { SpokenRequest } from "./providers/format.ts";
import type { Provider } from "./providers/provider.ts";
import type { TransportResponse } from "./providers/transport.ts";
import {
  findTarget,
  notFound,
  resolve,
  type Scope,
  type Target,
  toPricedModel,
} from "./routing/resolve.ts";
import { countInput, guessInput } from "./tokens/count.ts";

export type CountedTokens = {
  tokens: number;
  /** By the provider itself, by the model's tokenizer, by another model's with a margin, or from the bytes. */
  by: "provider" | "tokenizer" | "foreign-tokenizer" | "bytes";
};

type Counting = { scope: Scope; client: AbortSignal } & Pick<
  ReserveRequest,
  "requestId" | "principal"
>;

/** @throws HubError `model_not_found`, `rate_limit_exceeded`, and what the provider finds wrong with the request */
export async function countTokens(
  call: Call,
  { scope, client, requestId, principal }: Counting,
  parts: Pick<AppParts, "upstreams" | "limits" | "accounts">,
): Promise<CountedTokens & { headers: Readonly<Record<string, string>> }> {
  const target = targetOf(call.model, scope);
  const models = [toPricedModel(target)];
  const admitted = await parts.accounts.admit({ requestId, principal, models });
  try {
    // What guardrails keep from a provider is not sent to it to be counted either.
    const isTold = !principal.project.guardrails?.length;
    const counted = await count(call, { target, client, isTold }, parts);
    return { ...counted, headers: admitted.headers };
  } finally {
    await admitted.leave();
  }
}

async function count(
  call: Call,
  { target, client, isTold }: { target: Target; client: AbortSignal; isTold: boolean },
  { upstreams, limits }: Pick<AppParts, "upstreams" | "limits">,
): Promise<CountedTokens> {
  const upstream = upstreams.get(target.model.upstream);
  const told =
    upstream && isTold ? await askProvider(upstream, { call, target, client, limits }) : undefined;
  if (told !== undefined) return { tokens: told, by: "provider" };
  const { tokenizer } = target.model;
  // Counting holds up everyone else, and takes as long as the text is.
  if (call.bodyBytes > limits.countBytesMax) {
    return { tokens: guessInput(call, limits.imageTokens), by: "bytes" };
  }
  const tokens = countInput(call, tokenizer, limits);
  return { tokens, by: tokenizer === undefined ? "foreign-tokenizer" : "tokenizer" };
}

/** Of a route, the model that it falls to when nothing is known of the task. */
function targetOf(name: string, scope: Scope): Target {
  const resolved = resolve(name, scope);
  if (resolved.type === "target") return resolved.target;
  const target = findTarget(resolved.route.defaultModel, scope);
  if (!target) throw notFound(name, scope);
  return target;
}

type Asked = { call: Call; target: Target; client: AbortSignal; limits: AppParts["limits"] };

/** @returns undefined where the provider does not count, or cannot at the moment */
async function askProvider(
  upstream: Upstream,
  { call, target, client, limits }: Asked,
): Promise<number | undefined> {
  const { model } = target;
  const { provider } =
    upstream.choose({ model: model.upstreamModel, stickyKey: undefined, except: new Set() }) ?? {};
  const { counting, notConfigured } = provider ?? {};
  if (!provider || !counting || notConfigured !== undefined) return;
  const request = counting.writeRequest(spokenBy(provider, call, target), target);
  if (!request) return;
  const signal = anySignal([client, AbortSignal.timeout(provider.timeouts.firstByteMs)]);
  try {
    const response = await provider.transport.send({ ...request, signal, onSent: () => {} });
    const body = await readAll(response, limits.answerBytesMax);
    if (response.status !== 200) throw provider.readError(response, body);
    return counting.readCount(body);
  } catch (thrown) {
    const error = toUpstreamError(thrown, provider.name);
    // What is wrong with the request is the client's to mend; all else is no reason to tell it nothing.
    if (clientsFault.has(error.code)) throw error;
    return undefined;
  }
}

function spokenBy({ format }: Provider, call: Call, { model }: Target): SpokenRequest {
  if (call.dialect.format === format.name) return asItCame(call);
  return translate(call, format, model).spoken;
}

async function readAll(response: TransportResponse, bytesMax: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (let chunk = await response.read(); chunk; chunk = await response.read()) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      response.cancel();
      throw new HubError(
        "upstream_error",
        `The upstream's count is larger than ${bytesMax} bytes.`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const clientsFault: ReadonlySet<string> = new Set(["invalid_value", "request_too_large"]);
