/** How services meet: a fetch handler, in this process or behind a URL, called the same way. */

/** A Hono app's `fetch`, or `fetch` itself bound to a base URL. */
export type Fetcher = { fetch(request: Request): Promise<Response> };

/** The header that carries the digest of the adapter whose weights answered; absent for a base model. */
export const adapterDigestHeader = "x-switchyard-adapter";
/** The model that answered, as `base` or `base:adapter@version`. */
export const servedModelHeader = "x-switchyard-model";
/** The task that the caller names, or that the classifier found. */
export const taskHeader = "x-switchyard-task";
/** Free-form labels of a request, `key=value` pairs joined by commas; they reach reports. */
export const tagsHeader = "x-switchyard-tags";
/** The end user whom a request is for; goes before what the body says. */
export const endUserHeader = "x-switchyard-user";
/** The tenant on whose behalf the gateway calls an adapter-server; salts caches. */
export const tenantHeader = "x-switchyard-tenant";
/** Milliseconds after which an adapter-server's answer is of no use: what is not complete by then is ended. */
export const timeoutHeader = "x-switchyard-timeout-ms";

/** Base address for requests that go to a `Fetcher` in this process and never reach a socket. */
export const inProcessOrigin = "http://switchyard.internal";

/**
 * A request whose `signal` is the very one that is given. The signal of Node's own `Request` only follows it, and only while somebody
 * holds the request: once that is collected, aborting does nothing and whoever waits for it waits on (nodejs/undici#4068, #3644).
 */
export function abortableRequest(url: string, { signal, ...init }: RequestInit): Request {
  // biome-ignore lint/plugin: the one place that makes them without a signal
  const request = new Request(url, init);
  return signal ? Object.defineProperty(request, "signal", { value: signal }) : request;
}

/** The service behind a URL, called as if it were in this process: its own path stands before each request's. */
export function remoteFetcher(baseUrl: string): Fetcher {
  const base = baseUrl.replace(/\/+$/, "");
  return {
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      const { method, headers, body, signal, redirect } = request;
      const init = { method, headers, body, signal, redirect, duplex: "half" };
      return fetch(base + pathname + search, init as RequestInit);
    },
  };
}
