/** People at the door: their session's token, whose it is, and what its role allows. */
import { LRUCache } from "lru-cache";
import { z } from "zod";
import {
  type OpenSession,
  type SessionOpened,
  sessionOpened,
  type Whoami,
  whoami,
} from "../../sdk/protocol/admin.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import { mayCall, sessionPrefix } from "../../sdk/protocol/roles.ts";
import { isSessionToken } from "../../sdk/protocol/session-token.ts";
import { clientAddressHeader, vouchingHeader } from "../../sdk/protocol/vouched.ts";
import type { SignInSettings } from "./settings.ts";

export type PeopleParts = {
  settings: SignInSettings;
  registry: Fetcher;
  operatorKey: string;
  now: () => number;
};

export class People {
  readonly settings: SignInSettings;
  readonly cookieName: string;
  readonly #parts: PeopleParts;
  /** Who is asked for again after a second at the latest: what ended elsewhere ends here within it. */
  readonly #known: LRUCache<string, Whoami>;
  /** Tokens of sessions that have ended, which the registry is asked about as seldom. */
  readonly #ended: LRUCache<string, true>;

  constructor(parts: PeopleParts) {
    this.settings = parts.settings;
    this.#parts = parts;
    const bounds = { max: knownMax, ttl: knownMs, perf: { now: parts.now } };
    this.#known = new LRUCache(bounds);
    this.#ended = new LRUCache(bounds);
    const secure = parts.settings.publicUrl.startsWith("https:");
    this.cookieName = secure ? "__Host-switchyard_session" : "switchyard_session";
  }

  /**
   * The token of whoever sent the request, from the cookie or, as a key, from `Authorization`, which goes first.
   * @throws HubError `permission_denied` for a change that another site's page may have asked for
   */
  tokenOf(request: Request, authorization: string | null): string | undefined {
    if (authorization !== null) return sessionIn(authorization);
    const token = readCookie(request, this.cookieName);
    if (token !== undefined) this.refuseForeign(request);
    return token;
  }

  /** Browsers say where a change was asked for; one that does not say is refused. @throws HubError `permission_denied` */
  refuseForeign({ method, headers }: Request): void {
    if (method === "GET" || method === "HEAD") return;
    if (headers.get("origin") === new URL(this.settings.publicUrl).origin) return;
    throw new HubError(
      "permission_denied",
      `With a session's cookie, changes are taken from pages of ${this.settings.publicUrl} alone. Programs send a key in 'Authorization'.`,
    );
  }

  /** @throws HubError `invalid_api_key` for a session that has ended, `permission_denied` by the table of roles */
  async admit(token: string, { method, url }: Request): Promise<Whoami> {
    const person = await this.personOf(token);
    if (person.user && mayCall(person.user, method, new URL(url).pathname)) return person;
    throw new HubError(
      "permission_denied",
      `Your role '${person.user?.role}' does not allow this.`,
    );
  }

  /** What was made up is refused without asking the registry. @throws HubError `invalid_api_key` */
  async personOf(token: string): Promise<Whoami> {
    const known = this.#known.get(token);
    if (known) return known;
    const isOurs = await isSessionToken(token, this.#parts.operatorKey);
    if (!isOurs || this.#ended.has(token)) throw ended();
    const response = await this.#ask("/api/whoami", { authorization: `Bearer ${token}` });
    if (response.status === 401) {
      this.#ended.set(token, true);
      throw ended();
    }
    const person = whoami.parse(await jsonOf(response));
    this.#known.set(token, person);
    return person;
  }

  /** @throws HubError `permission_denied` for who may not come in */
  async open(person: OpenSession, address: string | undefined): Promise<SessionOpened> {
    return sessionOpened.parse(await this.#tell("/api/sessions", person, address));
  }

  /** The same session by another token. */
  async rotate(token: string): Promise<SessionOpened> {
    return sessionOpened.parse(await this.#tell("/api/sessions/rotate", { token }, undefined));
  }

  async end(token: string, address: string | undefined): Promise<void> {
    this.#known.delete(token);
    await this.#tell("/api/sessions/end", { token }, address);
  }

  async #tell(path: string, body: object, address: string | undefined): Promise<unknown> {
    const headers = {
      authorization: `Bearer ${this.#parts.operatorKey}`,
      ...(address !== undefined && {
        [vouchingHeader]: this.#parts.operatorKey,
        [clientAddressHeader]: address,
      }),
    };
    return jsonOf(await this.#ask(path, headers, JSON.stringify(body)));
  }

  #ask(path: string, headers: Record<string, string>, body?: string): Promise<Response> {
    const request = new Request(inProcessOrigin + path, {
      headers,
      ...(body !== undefined && { method: "POST", body }),
    });
    return this.#parts.registry.fetch(request).catch((cause) => {
      throw unavailable(cause);
    });
  }
}

async function jsonOf(response: Response): Promise<unknown> {
  if (response.ok) return response.json();
  if (response.status === 403) {
    const refusal = refused.safeParse(await response.json().catch(() => undefined));
    throw new HubError("permission_denied", refusal.data?.error.message ?? "You may not come in.");
  }
  throw unavailable(new Error(`the registry answered ${response.status}`));
}

function ended(): HubError {
  return new HubError("invalid_api_key", "This session has ended. Log in again.");
}

function unavailable(cause: unknown): HubError {
  return new HubError(
    "database_unavailable",
    "Who is logged in cannot be looked up at the moment. Requests with API keys go on.",
    { cause, retryAfterMs: 1000 },
  );
}

/** The session that stands in place of a key. */
export function sessionIn(authorization: string | undefined): string | undefined {
  const token = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
  return token?.startsWith(sessionPrefix) ? token : undefined;
}

export function readCookie({ headers }: Request, name: string): string | undefined {
  for (const pair of (headers.get("cookie") ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === name && value) return value;
  }
  return undefined;
}

const knownMax = 10_000;
const knownMs = 1000;
const refused = z.object({ error: z.object({ message: z.string() }) });
