/** What an answer depends on, as one hash; and which requests have no answer that could be given again. */
import { hash } from "node:crypto";
import type { Guardrails } from "../../sdk/protocol/guardrails.ts";
import type { Call } from "../dialects/dialect.ts";
import type { FormatName } from "../providers/format.ts";
import type { Target } from "../routing/resolve.ts";

/**
 * The hash of everything that may change a byte of the answer: dialect, the model's record and the name it was asked
 * by, the adapter's digest or the mix, the guardrails that the answer went through, headers that travel on, and the body. The order of the body's own fields means
 * nothing; that of what lies in them may (a tool's schema becomes a prompt), and so counts, as do unknown fields.
 * Projects are kept apart by the store.
 */
export function cacheKey(
  call: Call,
  { model, adapter, mix }: Target,
  guardrails: Guardrails | undefined,
): string {
  const { dialect, headers, body, source } = call;
  const ignored = withoutEffect[dialect.format] ?? [];
  // Numbers that no double holds would make one of two bodies.
  const asked = source
    ? source.text
    : Object.entries(body)
        .filter(([name]) => !ignored.includes(name))
        .sort(([a], [b]) => (a < b ? -1 : 1));
  const parts = [
    version,
    dialect.format,
    dialect.streamType,
    call.model,
    model,
    adapter?.digest,
    mix,
    call.stream,
    call.wantsUsage,
    guardrails,
    headers,
    asked,
  ];
  return hash("sha256", JSON.stringify(parts));
}

/**
 * Whether the same request again may be given the same answer: a text or vectors, that nothing outside the request
 * had a part in and that is kept nowhere else. Tools act, or look at a world that changes.
 * @param sampled  whether chance may have had a part
 */
export function isRepeatable(call: Call, { sampled }: { sampled: boolean }): boolean {
  const { body, dialect } = call;
  if (!repeatable.has(dialect.format)) return false;
  if (call.background || call.form || isKeptElsewhere(call)) return false;
  if (besides.some((name) => isGiven(body[name]))) return false;
  // A template that its provider keeps, and may change.
  if (dialect.format === "openai-responses" && isGiven(body.prompt)) return false;
  return sampled || dialect.format === "openai-embeddings" || temperatureOf(body) === 0;
}

/** A response is kept unless its client says otherwise, a chat only where it asks for that. */
function isKeptElsewhere({ dialect, body, keep }: Call): boolean {
  if (dialect.format === "openai-responses") return body.store !== false;
  return keep !== undefined || body.store === true;
}

function isGiven(value: unknown): boolean {
  return value != null && !(Array.isArray(value) && value.length === 0);
}

/** A body that names none leaves it to the provider, which takes 1. */
function temperatureOf(body: Call["body"]): unknown {
  const { temperature, generationConfig, inferenceConfig } = body as {
    temperature?: unknown;
    generationConfig?: { temperature?: unknown } | null;
    inferenceConfig?: { temperature?: unknown } | null;
  };
  return temperature ?? generationConfig?.temperature ?? inferenceConfig?.temperature;
}

/** Changed when what is kept under a key changes. */
const version = 1;

const repeatable: ReadonlySet<FormatName> = new Set<FormatName>([
  "openai-chat",
  "openai-completions",
  "openai-embeddings",
  "openai-responses",
  "anthropic-messages",
  "gemini",
  "bedrock-converse",
]);

/** What lies outside of the request: tools of any dialect, and what a provider or we keep. */
const besides = [
  "tools",
  "functions",
  "toolConfig",
  "web_search_options",
  "mcp_servers",
  "container",
  "previous_response_id",
  "conversation",
  "cachedContent",
  "promptVariables",
];

/** Whom it is for and how it is told apart; answers of the Responses API repeat these, so there they count. */
const withoutEffect: { [format in FormatName]?: readonly string[] } = {
  "openai-chat": [
    "user",
    "safety_identifier",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
  ],
  "openai-completions": ["user"],
  "openai-embeddings": ["user"],
  "anthropic-messages": ["metadata"],
  "bedrock-converse": ["requestMetadata"],
};
