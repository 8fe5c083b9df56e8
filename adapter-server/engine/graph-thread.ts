/**
 * All graphs of a model in a thread of their own. Opening a graph blocks its thread for seconds, and no other thread can use
 * it. So where one more graph is needed, a thread opens all of them while the engine's goes on with its own, and then is
 * given the keys and values: from there on it computes every call. It is given them once, since memory that changes hands
 * with each call would have V8 collect garbage each time.
 */
import type { Worker } from "node:worker_threads";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { startWorker } from "../start-worker.ts";
import type { CallResult, GraphKind } from "./graph-calls.ts";
import type { PoolData, PoolOptions } from "./key-value-pool.ts";
import { fromWireError, toWireError, type WireError } from "./messages.ts";
import type { PackedAdapter, StepRow } from "./types.ts";

export type GraphWorkerOptions = {
  paths: Partial<Record<GraphKind, string>>;
  /** Threads of one native call. */
  threads: number;
  pool: PoolOptions;
  slots: number;
  rankMax: number;
};

export type ToGraphWorker =
  | { type: "begin"; pool: PoolData }
  | { type: "load"; slot: number; adapter: PackedAdapter }
  | { type: "clear"; slot: number }
  | { type: "copy"; from: number; to: number }
  | { type: "run"; rows: readonly StepRow[] }
  | { type: "close" };

export type FromGraphWorker =
  | { type: "opened" }
  | { type: "failed"; error: WireError }
  | { type: "ran"; result: CallResult | WireError; copies: SlotCopy[] };

/** An adapter was copied to where the graph reads it, and how long that took. */
export type SlotCopy = { digest: string; ms: number };

export class GraphThread {
  readonly #worker: Worker;
  readonly #gone: Promise<void>;
  readonly #copies: SlotCopy[] = [];
  #isOpened = false;
  #isClosing = false;
  #onAnswer: (answer: FromGraphWorker) => void = () => {};

  /** @throws HubError `internal_error` when a graph cannot be opened */
  static async open(options: GraphWorkerOptions): Promise<GraphThread> {
    const thread = new GraphThread(options);
    const answer = await thread.#next();
    if (answer.type === "opened") return thread;
    invariant(answer.type === "failed", "a thread tells first whether it has its graphs");
    await thread.close();
    throw fromWireError(answer.error);
  }

  private constructor(options: GraphWorkerOptions) {
    const url = new URL("./graph-worker.ts", import.meta.url);
    this.#worker = startWorker(url, { workerData: options });
    let cause: unknown;
    this.#worker.on("message", (answer: FromGraphWorker) => {
      this.#isOpened ||= answer.type === "opened";
      this.#onAnswer(answer);
    });
    this.#worker.on("error", (error) => {
      cause = error;
    });
    this.#gone = new Promise((resolve) => {
      this.#worker.on("exit", () => {
        resolve();
        this.#onExit(cause);
      });
    });
  }

  /** It computes from now on. @param pool the keys and values, which go there */
  begin(pool: PoolData, adapters: Iterable<readonly [slot: number, adapter: PackedAdapter]>): void {
    this.#worker.postMessage(
      { type: "begin", pool },
      pool.map(({ buffer }) => buffer as ArrayBuffer),
    );
    for (const [slot, adapter] of adapters) this.load(slot, adapter);
  }

  /** What is told is taken up in order, so nothing reads a slot's former adapter once this returns. */
  load(slot: number, adapter: PackedAdapter): void {
    this.#tell({ type: "load", slot, adapter });
  }

  clear(slot: number): void {
    this.#tell({ type: "clear", slot });
  }

  copyBlock(from: number, to: number): void {
    this.#tell({ type: "copy", from, to });
  }

  /** @throws what is wrong with the call */
  async run(rows: readonly StepRow[]): Promise<CallResult> {
    this.#tell({ type: "run", rows });
    const answer = await this.#next();
    invariant(answer.type === "ran", "calls are answered one after the other");
    this.#copies.push(...answer.copies);
    if ("code" in answer.result) throw fromWireError(answer.result);
    return answer.result;
  }

  takeCopies(): SlotCopy[] {
    return this.#copies.splice(0);
  }

  close(): Promise<void> {
    this.#isClosing = true;
    this.#tell({ type: "close" });
    return this.#gone;
  }

  #tell(message: ToGraphWorker): void {
    this.#worker.postMessage(message);
  }

  #next(): Promise<FromGraphWorker> {
    return new Promise((resolve) => {
      this.#onAnswer = resolve;
    });
  }

  #onExit(cause: unknown): void {
    if (this.#isClosing) return;
    // The keys and values of all sequences have gone with it, so the engine's thread ends as well, and is started anew.
    if (this.#isOpened) throw new Error("the thread that computes died", { cause });
    this.#onAnswer({ type: "failed", error: toWireError(notOpened(cause)) });
  }
}

export function notOpened(cause: unknown): HubError {
  return new HubError("internal_error", "The graph that the adapter takes could not be opened.", {
    cause,
  });
}
