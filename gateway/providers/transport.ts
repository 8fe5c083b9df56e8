/** How bytes reach an upstream: a pool of connections to a URL, or a fetch handler in this process. */
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { type Dispatcher, Pool } from "undici";
import { invariant } from "../../sdk/protocol/errors.ts";
import { abortableRequest, type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import type { Upload } from "../http/form.ts";
import { type Connection, type Connections, openConnections } from "./connections.ts";

export type TransportRequest = {
  /** Under the upstream's base URL, such as `/chat/completions`. */
  path: string;
  headers: Record<string, string>;
  body: string;
  /** The body where it is a form; read anew each time the request is sent. */
  upload?: Upload;
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
  const connections = openConnections({ connectTimeoutMs });
  const pool = new Pool(url.origin, {
    connections: connectionsMax,
    connect: connections.connect,
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  return {
    send({ path, headers, body, upload, signal, onSent }) {
      const form = upload?.open();
      const isLong = !form && body.length > keptBodyCharsMax;
      const call = new PooledCall({ connections, signal, onSent, form });
      if (!signal.aborted) {
        pool.dispatch(
          {
            method: "POST",
            path: prefix + path,
            ...(isLong ? writtenOnce(body, headers) : { headers, body: form ?? body }),
          },
          call,
        );
      }
      return call.answer;
    },
    async close() {
      await pool.destroy();
    },
  };
}

/**
 * One call of a pool, and its answer: what undici's own `request` does with a stream, a resource and a listener more,
 * which took a tenth of a request's time.
 */
class PooledCall implements Dispatcher.DispatchHandler, TransportResponse {
  status = 0;
  readonly answer: Promise<TransportResponse>;
  readonly #connections: Connections;
  readonly #signal: AbortSignal;
  readonly #onSent: () => void;
  readonly #form: Readable | undefined;
  #begin: Waiting<TransportResponse> | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  /** The one that brings the answer, until that has ended. */
  #connection: Connection | undefined;
  #headers: IncomingHttpHeaders = {};
  /** What came and was not read yet. */
  readonly #chunks: Buffer[] = [];
  #chunkBytes = 0;
  #reader: Waiting<Uint8Array | undefined> | undefined;
  #ended = false;
  #failure: { reason: unknown } | undefined;

  constructor({
    connections,
    signal,
    onSent,
    form,
  }: {
    connections: Connections;
    signal: AbortSignal;
    onSent: () => void;
    form: Readable | undefined;
  }) {
    this.#connections = connections;
    this.#signal = signal;
    this.#onSent = onSent;
    this.#form = form;
    this.answer = new Promise((resolve, reject) => {
      this.#begin = { resolve, reject };
    });
    if (signal.aborted) this.#leave();
    else signal.addEventListener("abort", this.#leave, { once: true });
  }

  header(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  read(): Promise<Uint8Array | undefined> {
    const chunk = this.#chunks.shift();
    if (chunk) {
      this.#chunkBytes -= chunk.length;
      if (this.#chunkBytes < waitingBytesMax) this.#connection?.release();
      return Promise.resolve(chunk);
    }
    if (this.#failure) return Promise.reject(this.#failure.reason);
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  cancel(): void {
    if (!this.#ended) this.#abort(new Error("The answer is not wanted any more."));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // A request that waited for a connection is let go as soon as it has got one, which an abort would end.
    if (this.#failure) throw asError(this.#failure.reason);
    this.#controller = controller;
    this.#onSent();
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    // What only says that more will come.
    if (status < 200) return;
    this.status = status;
    this.#connection = this.#connections.reading();
    this.#headers = headers;
    this.#begin?.resolve(this);
    this.#begin = undefined;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const reader = this.#reader;
    if (reader) {
      this.#reader = undefined;
      reader.resolve(chunk);
      return;
    }
    this.#chunks.push(chunk);
    this.#chunkBytes += chunk.length;
    if (this.#chunkBytes >= waitingBytesMax) this.#connection?.hold((error) => this.#fail(error));
  }

  onResponseEnd(): void {
    this.#ended = true;
    this.#connection?.release();
    this.#connection = undefined;
    this.#signal.removeEventListener("abort", this.#leave);
    this.#reader?.resolve(undefined);
    this.#reader = undefined;
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#fail(error);
  }

  #leave = (): void => {
    this.#abort(this.#signal.reason);
  };

  #abort(reason: unknown): void {
    this.#fail(reason);
    this.#controller?.abort(asError(reason));
  }

  /** The first reason counts: what follows is only how the connection takes it. */
  #fail(reason: unknown): void {
    if (this.#failure) return;
    this.#failure = { reason };
    this.#connection = undefined;
    this.#chunks.length = 0;
    this.#signal.removeEventListener("abort", this.#leave);
    this.#form?.on("error", () => {}).destroy();
    this.#begin?.reject(reason);
    this.#reader?.reject(reason);
    this.#begin = undefined;
    this.#reader = undefined;
  }
}

type Waiting<T> = { resolve: (value: T) => void; reject: (reason: unknown) => void };

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}

/** Of an answer that is not read as quickly as it comes; then the connection is not read either. */
const waitingBytesMax = 64 << 10;

/** Undici keeps a body until its answer has ended, as text and as bytes; of a long one that is much for a stream. */
function writtenOnce(body: string, headers: Record<string, string>) {
  let bytes: Buffer | undefined = Buffer.from(body);
  const iterator = {
    next() {
      const value = bytes;
      bytes = undefined;
      return value ? { done: false, value } : { done: true, value: undefined };
    },
  };
  return {
    headers: { ...headers, "content-length": String(bytes.length) },
    // It takes any iterable, of which its types say nothing.
    body: { [Symbol.iterator]: () => iterator } as unknown as Buffer,
  };
}

/** A shorter one goes out in one piece with its headers. */
const keptBodyCharsMax = 16 << 10;

/** @param basePath put before each path, such as `/v1` */
export function inProcess(fetcher: Fetcher, basePath: string): Transport {
  return {
    async send({ path, headers, body, upload, signal, onSent }) {
      invariant(!upload, "what runs in this process takes no forms");
      const request = abortableRequest(inProcessOrigin + basePath + path, {
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
