/** Builds every upstream that the settings name, and the adapter-server of this process. */
import type { Fetcher } from "../../sdk/protocol/http.ts";
import type { GatewayLimits } from "../config.ts";
import { createAdapterServer } from "./adapter-server/index.ts";
import { anthropicBaseUrl, createAnthropic } from "./anthropic/index.ts";
import { openBedrock } from "./bedrock/open.ts";
import { cohereBaseUrl, createCohere } from "./cohere/index.ts";
import { createGemini, geminiBaseUrl } from "./gemini/index.ts";
import { createOpenAi, openAiBaseUrl } from "./openai/index.ts";
import { createOpenAiLike } from "./openai-like/index.ts";
import { type Quirks, quirks } from "./openai-like/quirks.ts";
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

/** An upstream with each way of reaching it: every address with every key. */
export type OpenedUpstream = Pick<UpstreamSettings, "balance" | "stickyBy" | "hedge"> & {
  /** Whether it runs on hardware of one's own. */
  own: boolean;
  deployments: OpenedDeployment[];
};

export type OpenedDeployment = {
  /** Unique within the upstream. */
  name: string;
  /** The same for those that share one. */
  address: string;
  key: string;
  weight: number;
  tier: number;
  provider: Provider;
};

/** @throws Error when two upstreams, or two deployments of one, have one name */
export function openProviders(options: OpenProvidersOptions): Map<string, OpenedUpstream> {
  const { upstreams, embedded, operatorKey, limits } = options;
  const opened = new Map<string, OpenedUpstream>();
  const add = (name: string, upstream: OpenedUpstream) => {
    if (opened.has(name)) throw new Error("two upstreams have the same name");
    opened.set(name, upstream);
  };
  for (const settings of upstreams) {
    const { balance, stickyBy, hedge } = settings;
    const own = settings.own ?? settings.type === "adapter-server";
    add(settings.name, { own, balance, stickyBy, hedge, deployments: openAll(settings, options) });
  }
  if (embedded) {
    const provider = createAdapterServer({
      name: embeddedUpstream,
      transport: inProcess(embedded, "/v1"),
      timeouts: timeoutsOf({}, limits),
      operatorKey,
      notConfigured: undefined,
    });
    const only = { name: embeddedUpstream, address: "", key: "", weight: 1, tier: 0, provider };
    add(embeddedUpstream, { own: true, deployments: [only] });
  }
  return opened;
}

/** What a deployment does not say is the upstream's. */
function openAll(settings: UpstreamSettings, options: OpenProvidersOptions): OpenedDeployment[] {
  const places = settings.deployments ?? [undefined];
  const names = places.map((place) => place?.name);
  if (new Set(names).size < names.length) {
    throw new Error(`two deployments of the upstream '${settings.name}' have the same name`);
  }
  return places.flatMap((place, index) => {
    const { name, weight = 1, tier = 0, keys, apiKeyEnv, ...where } = place ?? {};
    const variables =
      keys ?? (apiKeyEnv === undefined ? (settings.keys ?? [settings.apiKeyEnv]) : [apiKeyEnv]);
    return variables.map((variable, key) => {
      const isOneOfSeveral = variables.length > 1;
      const keyName = isOneOfSeveral ? `key-${key + 1}` : undefined;
      const own = { ...settings, ...where, ...(variable !== undefined && { apiKeyEnv: variable }) };
      return {
        name: [name, keyName].filter((it) => it !== undefined).join(".") || settings.name,
        address: String(index),
        // Without a name it is the place that knows who may come.
        key: variable ?? `of ${index}`,
        weight: weight / variables.length,
        tier,
        provider: openProvider(own as UpstreamSettings, options),
      };
    });
  });
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
    baseUrl,
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
    case "cohere":
      return createCohere({ ...shared, apiKey });
    default:
      return createOpenAiLike({ ...shared, apiKey }, quirks[settings.type]);
  }
}

function needsUrl({ name, type }: UpstreamSettings): never {
  throw new Error(`the upstream '${name}' needs a baseUrl: every ${type} has its own`);
}

/** Where a vendor is, and what its own SDKs call the variable with the key, when the settings name no URL. */
const vendors: {
  [type in UpstreamSettings["type"]]?: Partial<Quirks>;
} = {
  ...quirks,
  openai: { baseUrl: openAiBaseUrl, apiKeyEnv: "OPENAI_API_KEY" },
  anthropic: { baseUrl: anthropicBaseUrl, apiKeyEnv: "ANTHROPIC_API_KEY" },
  gemini: { baseUrl: geminiBaseUrl, apiKeyEnv: "GEMINI_API_KEY" },
  cohere: { baseUrl: cohereBaseUrl, apiKeyEnv: "COHERE_API_KEY" },
};
