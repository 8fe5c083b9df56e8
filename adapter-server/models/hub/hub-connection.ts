/** Requests to a hub: redirects by hand, so that the token stays with the hub; failures in plain words. */
import { type Dispatcher, EnvHttpProxyAgent, fetch, type Response } from "undici";
import { LibraryError } from "../library/library-error.ts";
import type { HubAccess } from "./hub-access.ts";

/** A failure that may pass: the server's trouble, too many requests, a connection that broke. */
export class PassingFailure extends Error {
  override readonly name = "PassingFailure";
  /** How long the server asks to wait. */
  readonly waitMs: number | undefined;
  constructor(
    message: string,
    { waitMs, cause }: { waitMs?: number | undefined; cause?: unknown },
  ) {
    super(message, { cause });
    this.waitMs = waitMs;
  }
}

/** One hub for the time of one command. Proxies are those of `HTTPS_PROXY` and its relatives. */
export class HubConnection {
  readonly access: HubAccess;
  readonly #agent: Dispatcher;
  readonly #nowMs: () => number;

  constructor(access: HubAccess, nowMs: () => number = Date.now) {
    this.access = access;
    this.#nowMs = nowMs;
    this.#agent = new EnvHttpProxyAgent({
      connect: { timeout: connectMsMax },
      headersTimeout: answerMsMax,
      bodyTimeout: stallMsMax,
      noProxy: [process.env.NO_PROXY ?? process.env.no_proxy ?? "", loopback]
        .filter((list) => list !== "")
        .join(","),
    });
  }

  /**
   * Asks for a path of the hub and follows redirects.
   * @param what for messages, such as `hf:owner/name@main`
   * @returns an answer of status 200 or 206, or 416 when a range was asked for
   * @throws PassingFailure, or LibraryError for what will not pass
   */
  async get(
    path: string,
    { what, headers = {} }: { what: string; headers?: Record<string, string> },
  ): Promise<Response> {
    const { endpoint, token } = this.access;
    const home = new URL(endpoint).origin;
    let url = new URL(`${endpoint}${path}`);
    for (let redirects = 0; redirects <= redirectsMax; redirects++) {
      const isHome = url.origin === home;
      const authorization = token !== undefined && isHome ? `Bearer ${token}` : undefined;
      const response = await this.#send(url, {
        ...headers,
        // Bytes as they are: a range of a compressed answer would be a range of other bytes.
        "accept-encoding": "identity",
        "user-agent": "switchyard",
        ...(authorization && { authorization }),
      });
      const next = response.headers.get("location");
      if (!redirectStatus.has(response.status) || next === null) {
        return this.#checked(response, { what, isHome });
      }
      await response.body?.cancel();
      url = redirectTarget(next, url);
    }
    throw new LibraryError("hub_failed", `The hub redirects ${what} in a circle.`);
  }

  /** The answer as JSON, of a size that such answers have. */
  async json(path: string, { what }: { what: string }): Promise<unknown> {
    const response = await this.get(path, { what });
    const parts: Uint8Array[] = [];
    let length = 0;
    try {
      for await (const part of response.body ?? []) {
        length += part.length;
        if (length > jsonBytesMax) {
          throw new LibraryError("hub_failed", `The hub's answer about ${what} does not end.`);
        }
        parts.push(part);
      }
    } catch (cause) {
      if (cause instanceof LibraryError) throw cause;
      throw new PassingFailure(`the connection to ${host(this.access.endpoint)} broke`, { cause });
    }
    try {
      return JSON.parse(Buffer.concat(parts).toString("utf8"));
    } catch (cause) {
      throw new LibraryError("hub_failed", `The hub's answer about ${what} is not JSON.`, {
        hint: "HF_ENDPOINT may point at something that is no hub.",
        cause,
      });
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #send(url: URL, headers: Record<string, string>): Promise<Response> {
    try {
      return await fetch(url, { headers, redirect: "manual", dispatcher: this.#agent });
    } catch (cause) {
      throw new PassingFailure(`${url.host} cannot be reached (${reasonOf(cause)})`, { cause });
    }
  }

  async #checked(
    response: Response,
    { what, isHome }: { what: string; isHome: boolean },
  ): Promise<Response> {
    const { status } = response;
    if (status === 200 || status === 206 || status === 416) return response;
    await response.body?.cancel();
    const server = new URL(response.url).host;
    if (status === 429 || status >= 500 || status === 408) {
      const waitMs = waitOf(response, this.#nowMs());
      throw new PassingFailure(`${server} answers ${status}`, { waitMs });
    }
    // A link to the store behind the hub is signed for a short while; the hub gives a new one.
    if (!isHome) throw new PassingFailure(`${server} answers ${status}`, {});
    throw refusal(response, what, this.access);
  }
}

/** What a hub's refusal means, by its status and the code that it sends in a header. */
function refusal(response: Response, what: string, { endpoint, token }: HubAccess): LibraryError {
  const { status, headers } = response;
  const code = headers.get("x-error-code") ?? "";
  const said = (headers.get("x-error-message") ?? "").replace(/[^\x20-\x7e]/g, "").slice(0, 200);
  const repo = /^hf:([^@/]+\/[^@/]+)/.exec(what)?.[1] ?? "";
  if (code === "GatedRepo") return gated(repo, { endpoint, token });
  if (code === "RevisionNotFound") {
    return new LibraryError("model_not_found", `The hub has no such revision: ${what}.`, {
      hint: `See the branches and tags at ${endpoint}/${repo}/tree/main.`,
    });
  }
  if (code === "EntryNotFound") {
    return new LibraryError("model_not_found", `The hub has no such file: ${what}.`);
  }
  if (status === 401 || status === 404) {
    return new LibraryError(
      "model_not_found",
      `The hub knows no ${what}${token === undefined ? ", or it is private" : ", or HF_TOKEN may not see it"}.`,
      {
        hint:
          token === undefined
            ? "Check the spelling. For a private model set HF_TOKEN to a token that may read it."
            : "Check the spelling, and that HF_TOKEN is valid and may read it.",
      },
    );
  }
  if (status === 403) {
    return new LibraryError("hub_access_denied", `The hub refuses ${what}${said && `: ${said}`}.`, {
      hint: "HF_TOKEN needs the right to read this repository's contents.",
    });
  }
  return new LibraryError(
    "hub_failed",
    `The hub answers ${status} for ${what}${said && `: ${said}`}.`,
  );
}

export function gated(repo: string, { endpoint, token }: Omit<HubAccess, "offline">): LibraryError {
  return new LibraryError(
    "hub_access_denied",
    token === undefined
      ? `hf:${repo} is gated: its owner wants to know who downloads it.`
      : `hf:${repo} is gated, and the account of HF_TOKEN has no access to it.`,
    {
      hint: `Accept its terms at ${endpoint}/${repo}${token === undefined ? ", then set HF_TOKEN to a token of that account" : " with that account"}.`,
    },
  );
}

/** @throws LibraryError when it leads from https to http, or to no web address */
function redirectTarget(location: string, from: URL): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const isAllowed =
    target?.protocol === "https:" || (target?.protocol === "http:" && from.protocol === "http:");
  if (target && isAllowed) return target;
  throw new LibraryError("hub_failed", `${from.host} redirects to where nothing is fetched from.`);
}

/** `retry-after` in seconds or as a date, or the seconds that the hub's own `ratelimit` header has. */
function waitOf({ headers }: Response, nowMs: number): number | undefined {
  const after = headers.get("retry-after") ?? /\bt=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  if (after == null) return undefined;
  const seconds = /^\d{1,9}$/.test(after) ? Number(after) : (Date.parse(after) - nowMs) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : undefined;
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  return "code" in cause ? String(cause.code) : cause.message;
}

function host(endpoint: string): string {
  return new URL(endpoint).host;
}

const redirectStatus = new Set([301, 302, 303, 307, 308]);
const redirectsMax = 5;
/** The largest repositories list some thousand files. */
const jsonBytesMax = 16 * 2 ** 20;
const connectMsMax = 15_000;
const answerMsMax = 60_000;
const stallMsMax = 60_000;
const loopback = "127.0.0.1,localhost,::1";
