/**
 * Checks and packs adapters in threads of their own: one of rank 64 for a model of a billion parameters
 * takes more than a second, in which nobody else would get a token or an answer.
 */
import type { Worker } from "node:worker_threads";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { fromWireError, type WireError } from "../engine/messages.ts";
import type { PackedAdapter } from "../engine/types.ts";
import type { BaseCheckpoint } from "../models/base-matrices.ts";
import type { FileDigests } from "../models/model-digest.ts";
import { startWorker } from "../start-worker.ts";
import type { AdapterFiles } from "./adapter-source.ts";
import { smallestBytes } from "./file-memory.ts";
import type { MixPart } from "./pack.ts";
import { packedBytes } from "./shared-weights.ts";

export type PackerTask =
  | {
      type: "pack";
      files: AdapterFiles;
      digest: string;
      /** What the adapter has to fit. */
      base: { shape: BaseShape; rankMax: number };
      /** The base's own weights, where the adapter depends on them. */
      checkpoint?: BaseCheckpoint | undefined;
      memory: SharedArrayBuffer;
    }
  | {
      type: "mix";
      parts: MixPart[];
      digest: string;
      rankMax: number;
      memory: SharedArrayBuffer;
    };
export type PackerThreadTask =
  | PackerTask
  | { type: "identify"; files: AdapterFiles; expected: string | undefined };

export type Identity = {
  digest: string;
  /** What the files' numbers take when they are packed. */
  memoryBytes: number;
  /** Whether packing them takes the base's own weights. */
  needsBase: boolean;
};

export type PackerOrder = {
  id: number;
  task: PackerThreadTask;
  /** What is known of the base's files, where the task takes them; threads tell each other by it. */
  fileDigests?: FileDigests | undefined;
};

/** With the files of the task, if it had any: their memory went to the thread and comes back. */
export type PackerAnswer = Pick<PackerOrder, "id" | "fileDigests"> &
  ({ result: PackedAdapter | Identity; files?: AdapterFiles | undefined } | { error: WireError });

export type Packer = {
  /**
   * Takes the files' memory; who needs them goes on with those that come back.
   * @param expected the digest that the files should have; of others only the digest is found out
   * @throws HubError `invalid_adapter` when the weights are no safetensors
   */
  identify(files: AdapterFiles, expected?: string): Promise<Identity & { files: AdapterFiles }>;
  /** The adapter in the task's memory, and its files again. @throws HubError what is wrong with it */
  pack(task: Extract<PackerTask, { type: "pack" }>): Promise<Packed>;
  /** The mix in the task's memory. @throws HubError `adapter_rank_too_large` */
  mix(task: Extract<PackerTask, { type: "mix" }>): Promise<PackedAdapter>;
  close(): Promise<void>;
};

export type Packed = { adapter: PackedAdapter; files: AdapterFiles };

export type PackerOptions = {
  /** Adapters that are packed at one time; large ones leave one thread to small ones. */
  threadsMax?: number | undefined;
  startThread?: typeof startWorker | undefined;
};

/** The first thread is started now, others when there is work for them; one that died is not missed. */
export function openPacker(options: PackerOptions = {}): Packer {
  const pool = new PackerPool(options.threadsMax ?? 2, options.startThread ?? startWorker);
  return {
    async identify(files, expected) {
      const { result, files: back } = await pool.run({ type: "identify", files, expected });
      invariant("memoryBytes" in result && back, "who asks what files are is told that");
      return { ...result, files: back };
    },
    async pack(task) {
      const { result: adapter, files } = await pool.run(task);
      invariant("layers" in adapter && files, "who has an adapter packed is given one");
      return { adapter, files };
    },
    async mix(task) {
      const { result } = await pool.run(task);
      invariant("layers" in result, "who has adapters mixed is given one");
      return result;
    },
    close: () => pool.close(),
  };
}

type Result = Extract<PackerAnswer, { result: unknown }>;
type Job = {
  id: number;
  task: PackerThreadTask;
  transferred: ArrayBuffer[];
  isLarge: boolean;
  settle: (answer: PackerAnswer | Error) => void;
};
type Thread = { worker: Worker; job: Job | undefined };

class PackerPool {
  readonly #threadsMax: number;
  readonly #startThread: typeof startWorker;
  readonly #threads = new Set<Thread>();
  /** Nobody has begun with them; the oldest first. */
  readonly #queue: Job[] = [];
  /** Absent until a thread has read the base's files. */
  #fileDigests: FileDigests | undefined;
  #nextId = 0;
  #isClosed = false;

  constructor(threadsMax: number, startThread: typeof startWorker) {
    this.#threadsMax = threadsMax;
    this.#startThread = startThread;
    this.#start();
  }

  /** @throws TypeError when the files' memory was given away before */
  async run(given: PackerThreadTask): Promise<Result> {
    if (this.#isClosed) throw shuttingDown();
    const { task, transferred } = owned(given);
    const isLarge = sizeOf(task) > smallBytesMax;
    const answer = await new Promise<PackerAnswer | Error>((settle) => {
      this.#queue.push({ id: this.#nextId++, task, transferred, isLarge, settle });
      this.#dispatch();
    });
    if (answer instanceof Error) throw answer;
    if ("error" in answer) throw fromWireError(answer.error);
    return answer;
  }

  /** Who waits is told; a thread that ends would begin with them otherwise. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { settle } of this.#queue.splice(0)) settle(shuttingDown());
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()));
  }

  #dispatch(): void {
    for (;;) {
      const busy = [...this.#threads].filter(({ job }) => job !== undefined);
      if (busy.length >= this.#threadsMax) return;
      const largeNow = busy.filter(({ job }) => job?.isLarge).length;
      const mayBeLarge = largeNow < Math.max(1, this.#threadsMax - 1);
      // The first that takes the base reads all of it, and whoever comes after that does not.
      const isRead = this.#fileDigests !== undefined;
      const mayRead = isRead || !busy.some(({ job }) => job && takesBase(job.task));
      const next = this.#queue.findIndex(
        ({ isLarge, task }) => (mayBeLarge || !isLarge) && (mayRead || !takesBase(task)),
      );
      const [job] = next === -1 ? [] : this.#queue.splice(next, 1);
      if (!job) return;
      const idle = [...this.#threads].find((thread) => thread.job === undefined);
      this.#give(idle ?? this.#start(), job);
    }
  }

  #give(thread: Thread, job: Job): void {
    thread.job = job;
    // Nobody stays alive for a thread that has nothing to do.
    thread.worker.ref();
    const { id, task, transferred } = job;
    const fileDigests = takesBase(task) ? (this.#fileDigests ?? new Map()) : undefined;
    const order: PackerOrder = { id, task, fileDigests };
    thread.worker.postMessage(order, transferred);
  }

  #start(): Thread {
    const worker = this.#startThread(new URL("./packer-worker.ts", import.meta.url));
    const thread: Thread = { worker, job: undefined };
    this.#threads.add(thread);
    let cause: Error | undefined;
    worker.unref();
    worker.on("message", (answer: PackerAnswer) => this.#finish(thread, answer));
    worker.on("error", (error) => {
      cause = error instanceof Error ? error : new Error(String(error));
    });
    worker.on("exit", () => {
      this.#threads.delete(thread);
      const died = new Error("the thread that packs adapters died", { cause });
      this.#finish(thread, this.#isClosed ? shuttingDown() : died);
    });
    return thread;
  }

  #finish(thread: Thread, answer: PackerAnswer | Error): void {
    const { job } = thread;
    thread.job = undefined;
    thread.worker.unref();
    if ("fileDigests" in answer) this.#fileDigests = answer.fileDigests ?? this.#fileDigests;
    job?.settle(answer);
    this.#dispatch();
  }
}

function sizeOf(task: PackerThreadTask): number {
  // The base is larger than any adapter.
  if (takesBase(task)) return Number.POSITIVE_INFINITY;
  if (task.type !== "mix") return task.files.weights.length;
  return task.parts.reduce((sum, { adapter }) => sum + packedBytes(adapter), 0);
}

function takesBase(task: PackerThreadTask): boolean {
  return task.type === "pack" && task.checkpoint !== undefined;
}

function shuttingDown(): HubError {
  return new HubError("shutting_down", "The server is shutting down.", { retryAfterMs: 1000 });
}

/** The task with files whose memory can be handed over, and that memory. */
function owned(task: PackerThreadTask): Pick<Job, "task" | "transferred"> {
  if (task.type === "mix") return { task, transferred: [] };
  const files = { config: alone(task.files.config), weights: alone(task.files.weights) };
  return { task: { ...task, files }, transferred: transferables(files) };
}

/** Node's small buffers lie together in one; a large one may have room behind the file. */
function alone(bytes: Uint8Array): Uint8Array {
  const { buffer, byteOffset, byteLength } = bytes;
  const isOwn = buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength > 0;
  const isAlone = isOwn && (buffer.byteLength === byteLength || byteLength >= smallestBytes);
  return isAlone ? bytes : new Uint8Array(bytes);
}

export function transferables({ config, weights }: AdapterFiles): ArrayBuffer[] {
  return [config.buffer, weights.buffer] as ArrayBuffer[];
}

/** What takes a tenth of a second or less: a rank 16 adapter of a model of 135 million parameters has 10 to 20 MB. */
const smallBytesMax = 32 << 20;
