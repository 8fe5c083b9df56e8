/** An encoder as the main thread sees it: texts in, vectors out, computed in a thread of its own. */
import type { Worker } from "node:worker_threads";
import { HubError } from "../../sdk/protocol/errors.ts";
import { fromWireError, type WireError } from "../engine/messages.ts";
import { startWorker } from "../start-worker.ts";
import type { EncoderGraph } from "./encoder-folder.ts";

export type EncoderLimits = {
  /** Requests that are computed or wait; further ones are refused. */
  requestsMax: number;
  /** Texts of one native call, and their tokens with padding. */
  batchRowsMax: number;
  batchTokensMax: number;
};

export type EncoderOptions = {
  graph: EncoderGraph;
  limits: EncoderLimits;
  threads: number;
  onFault: (message: string, cause: unknown) => void;
};

export type EncoderThreadOptions = Pick<EncoderLimits, "batchRowsMax" | "batchTokensMax"> & {
  graph: EncoderGraph;
  threads: number;
};

export type EncoderTask =
  | { type: "embed"; id: number; rows: readonly (readonly number[])[] }
  | { type: "cancel"; id: number };

export type EncoderAnswer =
  | { type: "ready" }
  /** The graph cannot be opened. */
  | { type: "failed"; error: WireError }
  | { type: "vector"; id: number; index: number; vector: Float32Array }
  | { type: "error"; id: number; error: WireError };

export type Encoder = {
  /** Values of a vector. */
  readonly width: number;
  /**
   * One pooled vector for each row of tokens, of any length.
   * @throws HubError `server_is_overloaded`, `request_cancelled`, `upstream_unavailable` when the thread died,
   *   `internal_error` when the model cannot be computed
   */
  embed(rows: readonly (readonly number[])[], signal: AbortSignal): Promise<Float32Array[]>;
  close(): Promise<void>;
};

/**
 * Opens the graph and tries it.
 * @throws HubError `unsupported_model` when it cannot be opened, or lets padding change its numbers
 */
export async function openEncoder(options: EncoderOptions): Promise<Encoder> {
  const encoder = new WorkerEncoder(options);
  try {
    await encoder.probe();
    return encoder;
  } catch (cause) {
    await encoder.close();
    if (cause instanceof HubError && cause.code === "unsupported_model") throw cause;
    throw new HubError("unsupported_model", "The encoder's graph cannot be run.", { cause });
  }
}

type Pending = {
  vectors: Float32Array[];
  left: number;
  resolve: (vectors: Float32Array[]) => void;
  reject: (error: HubError) => void;
};

class WorkerEncoder implements Encoder {
  readonly #options: EncoderOptions;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #nextId = 0;
  #isClosed = false;
  width = 0;

  constructor(options: EncoderOptions) {
    this.#options = options;
  }

  async embed(rows: readonly (readonly number[])[], signal: AbortSignal): Promise<Float32Array[]> {
    if (signal.aborted) throw cancelled();
    if (this.#isClosed) throw new HubError("shutting_down", "The server is shutting down.");
    if (this.#pending.size >= this.#options.limits.requestsMax) {
      throw new HubError("server_is_overloaded", "Too many requests wait for the encoder.", {
        retryAfterMs: 1000,
      });
    }
    const worker = this.#worker ?? this.#start();
    const id = this.#nextId++;
    const leave = () => {
      worker.postMessage({ type: "cancel", id } satisfies EncoderTask);
      this.#pending.get(id)?.reject(cancelled());
    };
    signal.addEventListener("abort", leave);
    try {
      return await new Promise<Float32Array[]>((resolve, reject) => {
        this.#pending.set(id, { vectors: [], left: rows.length, resolve, reject });
        worker.postMessage({ type: "embed", id, rows } satisfies EncoderTask);
      });
    } finally {
      signal.removeEventListener("abort", leave);
      this.#pending.delete(id);
    }
  }

  /** A short row alone and beside a long one: a graph that ignores its mask would mix padding into vectors. */
  async probe(): Promise<void> {
    const { signal } = new AbortController();
    const [short, long] = [[1, 2, 1], Array.from({ length: 12 }, (_, i) => 1 + (i % 2))];
    const [alone] = await this.embed([short], signal);
    const [beside] = await this.embed([short, long], signal);
    this.width = alone?.length ?? 0;
    const scale = Math.max(...(alone ?? []).map(Math.abs));
    const differs = alone?.some((value, i) => Math.abs(value - (beside?.[i] ?? 0)) > 1e-3 * scale);
    if (!differs && this.width > 0) return;
    throw new HubError(
      "unsupported_model",
      "The encoder's vectors of a text depend on the texts beside it: its graph does not heed 'attention_mask'.",
    );
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#failAll(new HubError("shutting_down", "The server is shutting down."));
    await this.#worker?.terminate();
  }

  /** One that died is started again by the next request. */
  #start(): Worker {
    const { graph, limits, threads, onFault } = this.#options;
    const { batchRowsMax, batchTokensMax } = limits;
    const workerData: EncoderThreadOptions = { graph, threads, batchRowsMax, batchTokensMax };
    const worker = startWorker(new URL("./encoder-worker.ts", import.meta.url), { workerData });
    let cause: unknown;
    worker.on("message", (answer: EncoderAnswer) => {
      // Whatever one that is given up still says of a text came of that.
      if (cause !== undefined) return;
      if (answer.type !== "failed") {
        this.#hear(answer);
        return;
      }
      // What kept the graph from being opened, such as memory that others used, may pass: the next thread tries again.
      cause = fromWireError(answer.error);
      void worker.terminate();
    });
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", () => {
      if (this.#worker === worker) this.#worker = undefined;
      if (this.#isClosed) return;
      onFault("the encoder's thread died", cause);
      const facts = { cause, retryAfterMs: 1000 };
      this.#failAll(new HubError("upstream_unavailable", "The encoder stopped.", facts));
    });
    this.#worker = worker;
    return worker;
  }

  #hear(answer: Exclude<EncoderAnswer, { type: "failed" }>): void {
    switch (answer.type) {
      case "ready":
        return;
      case "error":
        this.#fail(answer.id, fromWireError(answer.error));
        return;
      case "vector": {
        const pending = this.#pending.get(answer.id);
        if (!pending) return;
        pending.vectors[answer.index] = answer.vector;
        if (--pending.left === 0) pending.resolve(pending.vectors);
        return;
      }
      default:
        answer satisfies never;
    }
  }

  #fail(id: number, error: HubError): void {
    if (error.cause !== undefined)
      this.#options.onFault("a text could not be embedded", error.cause);
    this.#pending.get(id)?.reject(error);
  }

  #failAll(error: HubError): void {
    for (const { reject } of this.#pending.values()) reject(error);
  }
}

function cancelled(): HubError {
  return new HubError("request_cancelled", "The client closed the request.");
}
