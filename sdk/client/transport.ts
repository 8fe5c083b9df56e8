/** Sends the client's requests: address, key, JSON both ways, lists page by page, errors as one type. */
import { setTimeout as sleep } from "node:timers/promises";
import { readError, SwitchyardError } from "./error.ts";

export type TransportOptions = {
  /** `http://host:port`, with or without `/v1`. */
  baseURL: string;
  apiKey?: string | undefined;
  adminKey?: string | undefined;
  fetch?: typeof globalThis.fetch | undefined;
};

/** `admin` calls go out with the admin key, `project` calls with the project's, where there are both. */
export type KeyChoice = "admin" | "project";

export type Call = {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  key: KeyChoice;
  query?: Record<string, string | number | boolean | undefined>;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: NonNullable<RequestInit["body"]>;
  contentType?: string;
  signal?: AbortSignal | undefined;
};

/** OpenAI's envelope of a list; `last_id` is where the next page begins. */
type Page<T> = { data: T[]; has_more?: boolean; last_id?: string | null };

export class Transport {
  /** Without `/v1` and without a slash at its end. */
  readonly origin: string;
  readonly #options: TransportOptions;

  constructor(options: TransportOptions) {
    this.origin = options.baseURL.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#options = options;
  }

  /**
   * The body is not checked against a schema, so that a newer server's fields pass by unharmed.
   * @throws SwitchyardError
   */
  async call<T>(path: string, call: Call): Promise<T> {
    const response = await this.send(path, call);
    return (await response.json()) as T;
  }

  /** @throws SwitchyardError for an answer that is not 2xx, and when there is none */
  async send(path: string, call: Call): Promise<Response> {
    // Reading again changes nothing, so a passing failure of it is not the caller's concern.
    const attemptsMax = (call.method ?? "GET") === "GET" ? readAttemptsMax : 1;
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#sendOnce(path, call);
      if (!(outcome instanceof SwitchyardError)) return outcome;
      const passing = outcome.status === undefined || passingStatuses.has(outcome.status);
      if (attempt === attemptsMax || !passing || call.signal?.aborted) throw outcome;
      await sleep(200 * 2 ** attempt, undefined, call.signal ? { signal: call.signal } : {});
    }
  }

  /** Every item of a list, fetched page by page as they are used. */
  async *list<T>(path: string, call: Call): AsyncGenerator<T> {
    let after: string | undefined;
    do {
      const query = { limit: 100, ...call.query, after };
      const page = await this.call<Page<T>>(path, { ...call, query });
      yield* page.data;
      after = page.has_more === true ? (page.last_id ?? undefined) : undefined;
    } while (after !== undefined);
  }

  async listAll<T>(path: string, call: Call): Promise<T[]> {
    const all: T[] = [];
    for await (const item of this.list<T>(path, call)) all.push(item);
    return all;
  }

  async #sendOnce(path: string, call: Call): Promise<Response | SwitchyardError> {
    const url = new URL(this.origin + path);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = { authorization: `Bearer ${this.#key(call.key)}` };
    if (call.json !== undefined) headers["content-type"] = "application/json";
    if (call.contentType !== undefined) headers["content-type"] = call.contentType;
    const body = call.json === undefined ? call.body : JSON.stringify(call.json);
    const init: RequestInit & { duplex?: "half" } = {
      method: call.method ?? "GET",
      headers,
      ...(body === undefined ? {} : { body, duplex: "half" }),
      ...(call.signal ? { signal: call.signal } : {}),
    };
    let response: Response;
    try {
      response = await (this.#options.fetch ?? fetch)(url, init);
    } catch (cause) {
      return this.#connectionFailed(cause);
    }
    return response.ok ? response : readError(response);
  }

  #key(choice: KeyChoice): string {
    const { apiKey, adminKey } = this.#options;
    const key = choice === "admin" ? (adminKey ?? apiKey) : (apiKey ?? adminKey);
    if (key !== undefined) return key;
    throw new SwitchyardError(
      "No key was given. Pass apiKey (a project's) or adminKey to the client.",
      { code: "missing_api_key" },
    );
  }

  #connectionFailed(cause: unknown): SwitchyardError {
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    return new SwitchyardError(
      `${this.origin} cannot be reached (${reason instanceof Error ? reason.message : String(reason)}). Is Switchyard running there?`,
      { code: "connection_failed", cause },
    );
  }
}

const readAttemptsMax = 3;
const passingStatuses = new Set([429, 502, 503, 504]);
