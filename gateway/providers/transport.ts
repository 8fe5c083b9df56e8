/** How bytes reach an upstream: a pool of connections to a URL, or a fetch handler in this process. */
import { type Dispatcher, Pool } from "undici";
import { type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";

export type TransportRequest = {
  /** Under the upstream's base URL, such as `/chat/completions`. */
  path: string;
  headers: Record<string, string>;
  body: string;
  /** Aborting ends the call, its connection included, at once. */
  signal: AbortSignal;
  /** Called when the first byte is about to leave: until then the upstream cannot have begun to work. */
  onSent: () => void;
};

export type TransportResponse = {
  status: number;
  /** @param name in lower case */
  header(name: string): string | undefined;
  /** The next bytes, `undefined` at the end. @throws when the connection breaks or the call is aborted */
  read(): Promise<Uint8Array | undefined>;
  /** Ends the answer early, its connection with it; needed for one that is not read to its end. */
  cancel(): void;
};

export type Transport = {
  send(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
};

export type PoolOptions = { baseUrl: string; connectTimeoutMs: number; connectionsMax: number };

/** Keep-alive connections to one origin. Waiting for answers is timed by the caller, not here. */
export function openPool({ baseUrl, connectTimeoutMs, connectionsMax }: PoolOptions): Transport {
  const url = new URL(baseUrl);
  const prefix = url.pathname.replace(/\/+$/, "");
  const pool = new TellingPool(url.origin, {
    connections: connectionsMax,
    connect: { timeout: connectTimeoutMs },
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  return {
    async send({ path, headers, body, signal, onSent }) {
      const sending = pool.request({
        method: "POST",
        path: prefix + path,
        headers,
        body,
        signal,
        opaque: onSent,
      });
      // A request that waits for a connection notices the signal only when it has got one.
      const response = await untilAborted(sending, signal, (late) =>
        late.body.on("error", () => {}).destroy(),
      );
      const chunks = response.body[Symbol.asyncIterator]();
      // Destroying a body that nobody is reading raises "error", which would end the process.
      response.body.on("error", () => {});
      return {
        status: response.statusCode,
        header(name) {
          const value = response.headers[name];
          return Array.isArray(value) ? value.join(", ") : value;
        },
        async read() {
          const { done, value } = await chunks.next();
          return done ? undefined : (value as Uint8Array);
        },
        cancel() {
          response.body.destroy();
        },
      };
    },
    async close() {
      await pool.destroy();
    },
  };
}

/** A request waits for a connection first; its handler is told when it is written to one. */
class TellingPool extends Pool {
  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    const { opaque: onSent } = options as Dispatcher.RequestOptions<() => void>;
    const onConnect = handler.onConnect?.bind(handler);
    // The handler was made by `request` for this one request. It aborts there what was aborted before.
    handler.onConnect = (abort) => {
      let aborted = false;
      onConnect?.((error) => {
        aborted = true;
        abort(error);
      });
      if (!aborted) onSent?.();
    };
    return super.dispatch(options, handler);
  }
}

/** @param basePath put before each path, such as `/v1` */
export function inProcess(fetcher: Fetcher, basePath: string): Transport {
  return {
    async send({ path, headers, body, signal, onSent }) {
      const request = new Request(inProcessOrigin + basePath + path, {
        method: "POST",
        headers,
        body,
        signal,
      });
      signal.throwIfAborted();
      onSent();
      // A handler in this process may not notice the signal before it answers.
      const answering = fetcher.fetch(request);
      const response = await untilAborted(answering, signal, (late) => void late.body?.cancel());
      const reader = response.body?.getReader();
      const cancel = () => {
        reader?.cancel(signal.reason).catch(() => {});
      };
      signal.addEventListener("abort", cancel, { once: true });
      return {
        status: response.status,
        header: (name) => response.headers.get(name) ?? undefined,
        async read() {
          const next = await reader?.read();
          signal.throwIfAborted();
          if (next && !next.done) return next.value;
          signal.removeEventListener("abort", cancel);
          return undefined;
        },
        cancel,
      };
    },
    async close() {},
  };
}

/** Ends the wait with the signal; an answer that comes all the same is given to `discard`. */
export function untilAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  discard: (late: T) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason);
      promise.then(discard, () => {});
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
