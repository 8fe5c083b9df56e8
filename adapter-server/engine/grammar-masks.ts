/**
 * Which tokens the grammars of the sequences allow next. Threads of their own find that out while the engine computes
 * the step that the masks are for. For one that is late the engine waits some milliseconds; then the sequence sits out.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { createMaskMemory, type MaskMemory, rowOf, states } from "../output/grammar/mask-memory.ts";
import type {
  FromMaskWorker,
  MaskWorkerOptions,
  ToMaskWorker,
} from "../output/grammar/mask-worker.ts";
import type { Grammar } from "../output/grammar/matchers.ts";
import type { Vocabulary } from "../output/grammar/vocabulary.ts";
import { startWorker } from "../start-worker.ts";
import { fromWireError } from "./messages.ts";

export type GrammarMasksOptions = {
  vocabulary: Vocabulary;
  /** Tokens that end an answer; they are allowed where a grammar is complete. */
  endTokenIds: readonly number[];
  limits: GrammarLimits;
};

export type GrammarLimits = {
  /** Sequences with a grammar at one time, waiting ones included. */
  grammarSequencesMax: number;
  /** Threads that match; a grammar is compiled where it holds up the fewest sequences. */
  grammarThreadsMax: number;
  /** How long a grammar may take to compile, and one mask to be found. */
  grammarMsMax: number;
  /** Memory of one thread's matcher. */
  grammarBytesMax: number;
  /** Compiled grammars that one thread keeps. */
  grammarsCachedMax: number;
};

/** A sequence that follows a grammar. */
type Entry = {
  row: number;
  grammar: Grammar;
  said: number[];
  thread: MaskThread;
  /** Called once, when the first mask is there or never will be. */
  onOpened: ((error?: unknown) => void) | undefined;
  /** Since when the engine would have its next mask; absent while it is there. */
  missedSinceMs?: number | undefined;
  /** Times in a row that it was begun anew because its thread died of something else. */
  revivals: number;
  error?: unknown;
};

export class GrammarMasks {
  readonly #options: GrammarMasksOptions;
  readonly #memory: MaskMemory;
  readonly #freeRows: number[];
  readonly #entries = new Map<number, Entry>();
  #threads: MaskThread[] = [];
  readonly #nowMs: () => number;

  constructor(options: GrammarMasksOptions, vocabSize: number, nowMs: () => number) {
    const rows = options.limits.grammarSequencesMax;
    this.#options = options;
    this.#memory = createMaskMemory(rows, vocabSize);
    this.#freeRows = Array.from({ length: rows }, (_, row) => rows - 1 - row);
    this.#nowMs = nowMs;
  }

  /** Sequences that follow a grammar now. */
  get ids(): Iterable<number> {
    return this.#entries.keys();
  }

  has(id: number): boolean {
    return this.#entries.has(id);
  }

  /**
   * Compiles the grammar and finds the first mask.
   * @param onOpened called once, with an error when the grammar cannot be followed
   * @throws HubError `server_is_overloaded`
   */
  open(id: number, grammar: Grammar, onOpened: (error?: unknown) => void): void {
    const row = this.#freeRows.pop();
    if (row === undefined) {
      throw new HubError("server_is_overloaded", "Too many answers follow a grammar at present.", {
        retryAfterMs: 1000,
      });
    }
    const thread = this.#threadFor(grammar);
    const entry: Entry = { row, grammar, said: [], thread, onOpened, revivals: 0 };
    this.#entries.set(id, entry);
    this.#begin(entry);
  }

  /** Tokens that a step has chosen, for sequences that go on: one message to each thread. */
  advance(chosen: Iterable<readonly [id: number, token: number]>): void {
    const pairs = new Map<MaskThread, [row: number, token: number][]>();
    for (const [id, token] of chosen) {
      const entry = this.#entries.get(id);
      if (!entry) continue;
      entry.said.push(token);
      const ofThread = pairs.get(entry.thread) ?? [];
      ofThread.push([entry.row, token]);
      pairs.set(entry.thread, ofThread);
    }
    for (const [thread, list] of pairs) thread.tell({ type: "advance", pairs: list });
  }

  /**
   * Waits until the masks of these are there, or never will be; but not long, since nobody else is served meanwhile.
   * @returns those whose masks are still to come
   */
  async ready(ids: Iterable<number>): Promise<ReadonlySet<number>> {
    const late = new Set<number>();
    const untilMs = this.#nowMs() + waitMsMax;
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (entry && !(await this.#isReady(entry, untilMs))) late.add(id);
    }
    return late;
  }

  /**
   * A bit for each token that may come next, 32 to a word; absent when nothing restricts the sequence.
   * @throws HubError when its grammar could not be followed to here
   */
  maskOf(id: number): Int32Array | undefined {
    const entry = this.#entries.get(id);
    if (!entry) return undefined;
    if (entry.error !== undefined) throw entry.error;
    return rowOf(this.#memory, entry.row);
  }

  close(id: number): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    // Until its thread has heard of it, the row may still be written to.
    entry.thread.forget(entry);
  }

  async end(): Promise<void> {
    await Promise.all(this.#threads.splice(0).map((thread) => thread.end()));
  }

  #begin(entry: Entry): void {
    Atomics.store(this.#memory.states, entry.row, states.empty);
    entry.thread.begin(entry);
  }

  /** False when its mask is not there in time. */
  async #isReady(entry: Entry, untilMs: number): Promise<boolean> {
    const { states: shared } = this.#memory;
    while (entry.error === undefined) {
      const state = Atomics.load(shared, entry.row);
      if (state === entry.said.length + 1) {
        entry.missedSinceMs = undefined;
        entry.revivals = 0;
        return true;
      }
      if (state === states.refused) {
        entry.error = new Error("the grammar refuses a token that its mask allowed");
        return true;
      }
      const nowMs = this.#nowMs();
      entry.missedSinceMs ??= nowMs;
      if (nowMs - entry.missedSinceMs > this.#options.limits.grammarMsMax) entry.thread.kill();
      if (nowMs >= untilMs) return false;
      Atomics.wait(shared, entry.row, state, sliceMs);
      // The news of a thread's death, or of one begun anew, come between two turns of the event loop.
      if (Atomics.load(shared, entry.row) === state) await nextTurn();
    }
    return true;
  }

  /** One that has compiled the grammar; else an idle one, a new one, or the one with the fewest sequences. */
  #threadFor(grammar: Grammar): MaskThread {
    const known = this.#threads.find((thread) => thread.knows(grammar));
    if (known) return known;
    const [least] = this.#threads.toSorted((a, b) => a.load - b.load);
    if (
      least &&
      (least.load === 0 || this.#threads.length >= this.#options.limits.grammarThreadsMax)
    ) {
      return least;
    }
    const { limits, ...shared } = this.#options;
    const thread = new MaskThread(
      {
        ...shared,
        grammarsMax: limits.grammarsCachedMax,
        memory: this.#memory,
        busy: new Int32Array(new SharedArrayBuffer(4)),
        wasmBytesMax: limits.grammarBytesMax,
      },
      {
        msMax: limits.grammarMsMax,
        onFree: (row) => this.#freeRows.push(row),
        onDeath: (dead, culprit) => this.#onDeath(dead, culprit),
      },
    );
    this.#threads.push(thread);
    return thread;
  }

  /** What the thread worked on fails; all others of it are begun anew elsewhere, from their tokens. */
  #onDeath(dead: MaskThread, culprit: Culprit | undefined): void {
    this.#threads = this.#threads.filter((thread) => thread !== dead);
    for (const entry of this.#entries.values()) {
      if (entry.thread !== dead) continue;
      if (entry.row === culprit?.row) this.#fail(entry, culprit.error);
      else if (entry.revivals++ >= revivalsMax) this.#fail(entry, new Error("mask threads die"));
      else {
        // The new thread has all the time that the old one had: the delay is another's fault.
        entry.missedSinceMs = undefined;
        entry.thread = this.#threadFor(entry.grammar);
        this.#begin(entry);
      }
    }
  }

  #fail(entry: Entry, error: unknown): void {
    entry.error = error;
    entry.onOpened?.(error);
    entry.onOpened = undefined;
  }
}

type Culprit = { row: number; error: unknown };

/** One thread, what it was told to do, and how it ends. */
class MaskThread {
  readonly #worker: Worker;
  readonly #busy: Int32Array;
  readonly #owner: MaskThreadOwner;
  /** Sequences that it has been given, the ones that wait to be begun included. */
  readonly #entries = new Set<Entry>();
  /** Compiled here, as far as we know; what was dropped meanwhile is compiled again. */
  readonly #grammars = new Set<string>();
  /** Begun one after the other, so that a grammar that takes too long is known. */
  readonly #waiting: Entry[] = [];
  #opening: { entry: Entry; timer: NodeJS.Timeout } | undefined;
  #culprit: Culprit | undefined;
  /** Rows that it still has to leave. */
  readonly #leaving = new Set<number>();

  constructor(options: MaskWorkerOptions, owner: MaskThreadOwner) {
    this.#busy = options.busy;
    this.#owner = owner;
    const url = new URL("../output/grammar/mask-worker.ts", import.meta.url);
    // The package can be loaded only by what Node calls experimental, and says so to whoever watches the server.
    const execArgv = [...process.execArgv, "--no-warnings"];
    this.#worker = startWorker(url, { workerData: options, execArgv });
    // Nobody stays alive for it.
    this.#worker.unref();
    this.#worker.on("message", (message: FromMaskWorker) => this.#hear(message));
    this.#worker.on("error", (error) => this.#accuse(error));
    this.#worker.on("exit", () => {
      clearTimeout(this.#opening?.timer);
      this.#accuse(new Error("a mask thread died"));
      for (const row of this.#leaving) owner.onFree(row);
      owner.onDeath(this, this.#culprit);
    });
  }

  get load(): number {
    return this.#entries.size;
  }

  knows(grammar: Grammar): boolean {
    return this.#grammars.has(grammar.ebnf);
  }

  begin(entry: Entry): void {
    this.#entries.add(entry);
    this.#waiting.push(entry);
    this.#openNext();
  }

  tell(message: ToMaskWorker): void {
    this.#worker.postMessage(message);
  }

  forget(entry: Entry): void {
    this.#entries.delete(entry);
    const place = this.#waiting.indexOf(entry);
    if (place !== -1) {
      this.#waiting.splice(place, 1);
      this.#owner.onFree(entry.row);
      return;
    }
    this.#leaving.add(entry.row);
    this.tell({ type: "close", row: entry.row });
  }

  /** Ends it because it takes too long, for whatever it works on. */
  kill(): void {
    this.#accuse(
      new HubError("invalid_value", "The grammar takes longer to follow than it may; simplify it."),
    );
    void this.#worker.terminate();
  }

  async end(): Promise<void> {
    this.#worker.removeAllListeners();
    clearTimeout(this.#opening?.timer);
    await this.#worker.terminate();
  }

  #openNext(): void {
    if (this.#opening) return;
    const entry = this.#waiting.shift();
    if (!entry) return;
    const timer = setTimeout(() => this.kill(), this.#owner.msMax);
    this.#opening = { entry, timer };
    this.tell({ type: "open", row: entry.row, grammar: entry.grammar, said: entry.said });
  }

  #hear(message: FromMaskWorker): void {
    switch (message.type) {
      case "opened":
        this.#onOpened(message);
        return;
      case "left":
        this.#leaving.delete(message.row);
        this.#owner.onFree(message.row);
        return;
      default:
        message satisfies never;
    }
  }

  #onOpened({ row, error }: Extract<FromMaskWorker, { type: "opened" }>): void {
    invariant(this.#opening?.entry.row === row, "grammars are begun one after the other");
    if (error) {
      this.#culprit = { row, error: fromWireError(error) };
      return;
    }
    const { entry, timer } = this.#opening;
    clearTimeout(timer);
    this.#opening = undefined;
    this.#grammars.add(entry.grammar.ebnf);
    entry.onOpened?.();
    entry.onOpened = undefined;
    this.#openNext();
  }

  /** Whoever is worked on when a thread fails is what it fails of. */
  #accuse(error: unknown): void {
    const row = Atomics.load(this.#busy, 0) - 1;
    if (row >= 0) this.#culprit ??= { row, error };
  }
}

type MaskThreadOwner = {
  msMax: number;
  /** The thread no longer writes to the row. */
  onFree(row: number): void;
  onDeath(thread: MaskThread, culprit: Culprit | undefined): void;
};

/** How long the engine's thread sleeps at a time for a mask that is late, and how long a step waits for all of them. */
const sliceMs = 5;
const waitMsMax = 20;
const revivalsMax = 3;
