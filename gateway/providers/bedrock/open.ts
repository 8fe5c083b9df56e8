/** Builds an upstream on Bedrock from its settings: an API key of its own, or AWS's keys, which sign. */
import type { Provider } from "../provider.ts";
import type { Timeouts, UpstreamSettings } from "../settings.ts";
import { openPool } from "../transport.ts";
import { createBedrock } from "./index.ts";
import { signed } from "./signed.ts";

export type OpenBedrockOptions = {
  env: Readonly<Record<string, string | undefined>>;
  timeouts: Timeouts;
  connectTimeoutMs: number;
  connectionsMax: number;
  now: () => number;
};

type BedrockSettings = Extract<UpstreamSettings, { type: "bedrock" }>;

/** As AWS's own SDKs do: an API key goes before keys that sign. */
export function openBedrock(settings: BedrockSettings, options: OpenBedrockOptions): Provider {
  const { name, region } = settings;
  const { env, timeouts, now, ...connections } = options;
  const baseUrl = settings.baseUrl ?? `https://bedrock-runtime.${region}.amazonaws.com`;
  const pool = openPool({ baseUrl, ...connections });
  const variable = settings.apiKeyEnv ?? "AWS_BEARER_TOKEN_BEDROCK";
  const apiKey = settings.apiKey ?? (env[variable] || undefined);
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = env;
  const shared = { name, timeouts };
  if (apiKey !== undefined || settings.apiKeyEnv !== undefined) {
    const notConfigured = apiKey === undefined ? missing(name, variable) : undefined;
    return createBedrock({ ...shared, transport: pool, apiKey, notConfigured });
  }
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) {
    const notConfigured = missing(name, "AWS_BEARER_TOKEN_BEDROCK or AWS_ACCESS_KEY_ID");
    return createBedrock({ ...shared, transport: pool, apiKey: undefined, notConfigured });
  }
  const credentials = {
    accessKeyId: AWS_ACCESS_KEY_ID,
    secretAccessKey: AWS_SECRET_ACCESS_KEY,
    sessionToken: AWS_SESSION_TOKEN || undefined,
  };
  const transport = signed(pool, { baseUrl, region, credentials, now });
  return createBedrock({ ...shared, transport, apiKey: undefined, notConfigured: undefined });
}

function missing(name: string, variable: string): string {
  return `the credential of the upstream '${name}' is not set (${variable})`;
}
