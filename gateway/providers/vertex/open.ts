/** Builds an upstream on Vertex from its settings: where it is, and whose tokens it is asked with. */
import type { Provider } from "../provider.ts";
import type { Timeouts, UpstreamSettings } from "../settings.ts";
import { openPool } from "../transport.ts";
import { authorized } from "./authorized.ts";
import { createVertex, vertexBaseUrl } from "./index.ts";
import { type AccessTokens, readServiceAccount, ServiceAccountTokens } from "./service-account.ts";

export type OpenVertexOptions = {
  env: Readonly<Record<string, string | undefined>>;
  timeouts: Timeouts;
  connectTimeoutMs: number;
  connectionsMax: number;
  tokenTimeoutMs: number;
  now: () => number;
};

type VertexSettings = Extract<UpstreamSettings, { type: "vertex" }>;

/** An access token of the settings' own is used as it is; else a service account's key file gives them. */
export function openVertex(settings: VertexSettings, options: OpenVertexOptions): Provider {
  const { name } = settings;
  const { timeouts, connectTimeoutMs, connectionsMax } = options;
  const baseUrl = settings.baseUrl ?? vertexBaseUrl(settings);
  const found = findTokens(settings, options);
  const isMissing = typeof found === "string";
  const pool = openPool({ baseUrl, connectTimeoutMs, connectionsMax });
  return createVertex({
    name,
    transport: isMissing ? pool : authorized(pool, found),
    timeouts,
    notConfigured: isMissing
      ? `the credential of the upstream '${name}' is not set (${found})`
      : undefined,
  });
}

/** @returns a text that says what is missing where there are none */
function findTokens(
  { name, apiKey, apiKeyEnv, credentialsFile }: VertexSettings,
  { env, tokenTimeoutMs, now }: OpenVertexOptions,
): AccessTokens | string {
  if (apiKey !== undefined) return fixed(apiKey);
  if (apiKeyEnv !== undefined) {
    const token = env[apiKeyEnv];
    return token ? fixed(token) : apiKeyEnv;
  }
  const path = credentialsFile ?? env.GOOGLE_APPLICATION_CREDENTIALS;
  if (!path) return "GOOGLE_APPLICATION_CREDENTIALS";
  try {
    const account = readServiceAccount(path);
    return new ServiceAccountTokens({ account, upstream: name, timeoutMs: tokenTimeoutMs, now });
  } catch (error) {
    return `the key file: ${(error as Error).message}`;
  }
}

function fixed(token: string): AccessTokens {
  return { get: async () => token, forget() {}, close: async () => {} };
}
