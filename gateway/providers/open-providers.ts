/** Builds every upstream that the settings name, and the adapter-server of this process. */
import type { Fetcher } from "../../sdk/protocol/http.ts";
import type { GatewayLimits } from "../config.ts";
import { createAdapterServer } from "./adapter-server/index.ts";
import { anthropicBaseUrl, createAnthropic } from "./anthropic/index.ts";
import { openBedrock } from "./bedrock/open.ts";
import { createGemini, geminiBaseUrl } from "./gemini/index.ts";
import { createOpenAi, openAiBaseUrl } from "./openai/index.ts";
import { createOpenAiLike } from "./openai-like/index.ts";
import { quirks } from "./openai-like/quirks.ts";
import type { Provider } from "./provider.ts";
import { timeoutsOf, type UpstreamSettings } from "./settings.ts";
import { inProcess, openPool } from "./transport.ts";
import { openVertex } from "./vertex/open.ts";

export type OpenProvidersOptions = {
  upstreams: readonly UpstreamSettings[];
  /** The adapter-server of this process; models name it as the upstream `embedded`. */
  embedded?: Fetcher | undefined;
  operatorKey: string;
  /** Where `apiKeyEnv` is looked up. */
  env: Readonly<Record<string, string | undefined>>;
  limits: GatewayLimits;
  /** Milliseconds since 1970; access tokens expire by it. */
  now: () => number;
};

const embeddedUpstream = "embedded";

/** @throws Error when two upstreams have one name */
export function openProviders(options: OpenProvidersOptions): Map<string, Provider> {
  const { upstreams, embedded, operatorKey, limits } = options;
  const providers = upstreams.map((settings) => openProvider(settings, options));
  if (embedded) {
    providers.push(
      createAdapterServer({
        name: embeddedUpstream,
        transport: inProcess(embedded, "/v1"),
        timeouts: timeoutsOf({}, limits),
        operatorKey,
        notConfigured: undefined,
      }),
    );
  }
  const byName = new Map(providers.map((provider) => [provider.name, provider]));
  if (byName.size < providers.length) throw new Error("two upstreams have the same name");
  return byName;
}

function openProvider(
  settings: UpstreamSettings,
  { env, limits, operatorKey, now }: OpenProvidersOptions,
): Provider {
  const { name } = settings;
  const timeouts = timeoutsOf(settings, limits);
  const connections = {
    connectTimeoutMs: settings.connectTimeoutMs ?? limits.connectTimeoutMs,
    connectionsMax: limits.connectionsPerUpstreamMax,
  };
  if (settings.type === "vertex") {
    const { tokenTimeoutMs } = limits;
    return openVertex(settings, { ...connections, env, timeouts, tokenTimeoutMs, now });
  }
  if (settings.type === "bedrock") {
    return openBedrock(settings, { ...connections, env, timeouts, now });
  }
  const vendor = vendors[settings.type];
  const variable =
    settings.apiKeyEnv ?? (settings.baseUrl === undefined ? vendor?.apiKeyEnv : undefined);
  const apiKey =
    settings.apiKey ?? (variable === undefined ? undefined : env[variable] || undefined);
  const notConfigured =
    variable !== undefined && apiKey === undefined
      ? `the credential of the upstream '${name}' is not set (${variable})`
      : undefined;
  const baseUrl = settings.baseUrl ?? vendor?.baseUrl ?? needsUrl(settings);
  const shared = {
    name,
    transport: openPool({ baseUrl, ...connections }),
    timeouts,
    notConfigured,
  };
  switch (settings.type) {
    case "openai":
      // OpenAI itself speaks both; of others that is known only from their operators.
      return createOpenAi({
        ...shared,
        apiKey,
        api: settings.api ?? (settings.baseUrl === undefined ? "both" : "chat"),
      });
    case "anthropic": {
      const { outputTokensDefault } = limits;
      return createAnthropic({ ...shared, apiKey, outputTokensDefault });
    }
    case "adapter-server":
      return createAdapterServer({ ...shared, operatorKey: apiKey ?? operatorKey });
    case "gemini":
      return createGemini({ ...shared, apiKey });
    default:
      return createOpenAiLike({ ...shared, apiKey }, quirks[settings.type]);
  }
}

function needsUrl({ name, type }: UpstreamSettings): never {
  throw new Error(`the upstream '${name}' needs a baseUrl: every ${type} has its own`);
}

/** Where a vendor is, and what its own SDKs call the variable with the key, when the settings name no URL. */
const vendors: {
  [type in UpstreamSettings["type"]]?: { baseUrl?: string; apiKeyEnv?: string };
} = {
  ...quirks,
  openai: { baseUrl: openAiBaseUrl, apiKeyEnv: "OPENAI_API_KEY" },
  anthropic: { baseUrl: anthropicBaseUrl, apiKeyEnv: "ANTHROPIC_API_KEY" },
  gemini: { baseUrl: geminiBaseUrl, apiKeyEnv: "GEMINI_API_KEY" },
};
