/** Access tokens of a Google service account: its signed word against a token that lasts an hour (RFC 7523). */
import { createPrivateKey, createSign, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { openPool, type Transport, type TransportResponse } from "../transport.ts";

/** What can give a token for a request. */
export type AccessTokens = {
  /** @throws HubError `upstream_auth_failed` when there is none to be had */
  get(): Promise<string>;
  /** The upstream refused it, so the next `get` asks anew. */
  forget(token: string): void;
  close(): Promise<void>;
};

export type ServiceAccount = z.infer<typeof keyFile> & { key: KeyObject };

/** @throws Error that names the file and what is wrong with it, and shows nothing of it */
export function readServiceAccount(path: string): ServiceAccount {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`it cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`);
  }
  try {
    const account = keyFile.parse(JSON.parse(text));
    return { ...account, key: createPrivateKey(account.private_key) };
  } catch (error) {
    const field = error instanceof z.ZodError ? error.issues[0]?.path.join(".") : undefined;
    throw new Error(`it is no key of a service account${field ? ` ('${field}' is missing)` : ""}`);
  }
}

export type ServiceAccountTokensOptions = {
  account: ServiceAccount;
  /** The upstream's name, for errors. */
  upstream: string;
  timeoutMs: number;
  now: () => number;
};

/** One token serves everybody until shortly before it expires, and one request at a time fetches the next. */
export class ServiceAccountTokens implements AccessTokens {
  readonly #options: ServiceAccountTokensOptions;
  readonly #transport: Transport;
  #current: { token: string; renewAtMs: number } | undefined;
  #fetching: Promise<string> | undefined;

  constructor(options: ServiceAccountTokensOptions) {
    this.#options = options;
    this.#transport = openPool({
      baseUrl: options.account.token_uri,
      connectTimeoutMs: options.timeoutMs,
      connectionsMax: 1,
    });
  }

  async get(): Promise<string> {
    const current = this.#current;
    if (current && this.#options.now() < current.renewAtMs) return current.token;
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return await this.#fetching;
  }

  forget(token: string): void {
    if (this.#current?.token === token) this.#current = undefined;
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  async #fetch(): Promise<string> {
    const { account, upstream, timeoutMs, now } = this.#options;
    const askedAtMs = now();
    const form = new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
      assertion: signAssertion(account, askedAtMs),
    });
    const refused = (what: string, cause?: unknown) =>
      new HubError(
        "upstream_auth_failed",
        `The upstream '${upstream}' has no access token: Google's token service ${what}. Its operator has to look after the service account.`,
        { cause },
      );
    let response: TransportResponse;
    let text: string;
    try {
      response = await this.#transport.send({
        path: "",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: form.toString(),
        signal: AbortSignal.timeout(timeoutMs),
        onSent: () => {},
      });
      text = await readBounded(response);
    } catch (cause) {
      throw refused("cannot be reached", cause);
    }
    if (response.status !== 200) throw refused(`refused it (${response.status})`);
    const granted = grant.safeParse(parseJson(text));
    if (!granted.success) throw refused("answered with something else");
    const { access_token, expires_in } = granted.data;
    this.#current = {
      token: access_token,
      // A short one is renewed halfway; requests that are on their way still need theirs.
      renewAtMs: askedAtMs + Math.max(expires_in * 500, expires_in * 1000 - renewBeforeMs),
    };
    return access_token;
  }
}

/** A JWT that is signed with RS256. */
function signAssertion(account: ServiceAccount, nowMs: number): string {
  const issuedAt = Math.floor(nowMs / 1000);
  const head = { alg: "RS256", typ: "JWT", kid: account.private_key_id };
  const claims = {
    iss: account.client_email,
    scope,
    aud: account.token_uri,
    iat: issuedAt,
    exp: issuedAt + 3600,
  };
  const signed = [head, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  const signature = createSign("RSA-SHA256").update(signed).sign(account.key, "base64url");
  return `${signed}.${signature}`;
}

async function readBounded(response: TransportResponse): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (let chunk = await response.read(); chunk; chunk = await response.read()) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > grantBytesMax) {
      response.cancel();
      throw new Error(`the answer is larger than ${grantBytesMax} bytes`);
    }
  }
  return Buffer.concat(chunks).toString();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const scope = "https://www.googleapis.com/auth/cloud-platform";
const renewBeforeMs = 5 * 60_000;
const grantBytesMax = 64 << 10;

/** As Google's console gives it out. */
const keyFile = z.object({
  type: z.literal("service_account"),
  client_email: z.string().min(1),
  private_key: z.string().min(1),
  private_key_id: z.string().optional(),
  token_uri: z.url({ protocol: /^https?$/ }),
});
const grant = z.object({ access_token: z.string().min(1), expires_in: z.number().positive() });
