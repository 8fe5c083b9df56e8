/**
 * Which tokens the grammars of the sequences allow next. Threads of their own find that out while the engine computes
 * the step that the masks are for. For one that is late the engine waits some milliseconds; then the sequence sits out.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import {
  createMaskMemory,
  type MaskMemory,
  rowOf,
  states,
  supposedMax,
  supposedRowOf,
} from "../output/grammar/mask-memory.ts";
import type {
  FromMaskWorker,
  MaskWorkerOptions,
  Supposed,
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
  /** Of these, those of one tenant. */
  grammarTenantSequencesMax: number;
  /** Threads that match; a grammar is compiled where it holds up the fewest sequences of other tenants. */
  grammarThreadsMax: number;
  /** How long a grammar may take to compile, and one mask to be found. */
  grammarMsMax: number;
  /** How long a step waits for masks that are late; then their sequences sit it out. */
  grammarWaitMsMax: number;
  /** Memory of one thread's matcher. */
  grammarBytesMax: number;
  /** Compiled grammars that one thread keeps. */
  grammarsCachedMax: number;
};

/** A sequence that follows a grammar. */
type Entry = {
  row: number;
  tenant: string;
  grammar: Grammar;
  said: number[];
  thread: MaskThread;
  /** Called once, when the first mask is there or never will be. */
  onOpened: ((error?: unknown) => void) | undefined;
  /** Since when the engine would have its next mask; absent while it is there. */
  missedSinceMs?: number | undefined;
  /** Times that it was supposed to say something, and how many tokens last, where that has not come true or false yet. */
  round: number;
  supposed: number;
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
   * @throws HubError `server_is_overloaded`, `rate_limit_exceeded` where the tenant has as many as one may
   */
  open(
    id: number,
    { grammar, tenant }: { grammar: Grammar; tenant: string },
    onOpened: (error?: unknown) => void,
  ): void {
    this.#refuseCrowd(tenant);
    const row = this.#freeRows.pop();
    if (row === undefined) {
      throw new HubError("server_is_overloaded", "Too many answers follow a grammar at present.", {
        retryAfterMs: 1000,
      });
    }
    const thread = this.#threadFor({ grammar, tenant });
    const entry: Entry = {
      ...{ row, tenant, grammar, said: [], thread, onOpened, revivals: 0 },
      ...{ round: 0, supposed: 0 },
    };
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
      entry.supposed = 0;
      const ofThread = pairs.get(entry.thread) ?? [];
      ofThread.push([entry.row, token]);
      pairs.set(entry.thread, ofThread);
    }
    for (const [thread, list] of pairs) thread.tell({ type: "advance", pairs: list });
  }

  /**
   * What sequences are guessed to say next: masks are found behind each of these tokens, while the step is computed
   * that tells whether they are said. At most `supposedMax` of each sequence count.
   */
  suppose(guesses: Iterable<readonly [id: number, tokens: readonly number[]]>): void {
    const texts = new Map<MaskThread, Supposed[]>();
    for (const [id, tokens] of guesses) {
      const entry = this.#entries.get(id);
      if (!entry) continue;
      entry.round++;
      entry.supposed = Math.min(supposedMax, tokens.length);
      const ofThread = texts.get(entry.thread) ?? [];
      const { row, round } = entry;
      ofThread.push({ row, round, tokens: tokens.slice(0, supposedMax) });
      texts.set(entry.thread, ofThread);
    }
    for (const [thread, list] of texts) thread.tell({ type: "suppose", texts: list });
  }

  /**
   * Waits until the masks of these are there, or never will be; but not long, since nobody else is served meanwhile.
   * @returns those whose masks are still to come
   */
  async ready(ids: Iterable<number>): Promise<ReadonlySet<number>> {
    const late = new Set<number>();
    const { grammarWaitMsMax } = this.#options.limits;
    const untilMs = this.#nowMs() + grammarWaitMsMax;
    const supposing: Entry[] = [];
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (!entry) continue;
      if (!(await this.#isReady(entry, untilMs))) late.add(id);
      else if (entry.supposed > 0) supposing.push(entry);
    }
    const supposedUntilMs = this.#nowMs() + supposedWaitShare * grammarWaitMsMax;
    for (const entry of supposing) this.#awaitSupposed(entry, supposedUntilMs);
    return late;
  }

  /** The mask behind so many of the tokens that were supposed; absent where it is not known, or they are not allowed. */
  supposedMaskOf(id: number, tokens: number): Int32Array | undefined {
    const entry = this.#entries.get(id);
    if (!entry || entry.round === 0 || tokens > supposedMax) return undefined;
    const at = entry.row * supposedMax + tokens - 1;
    if (Atomics.load(this.#memory.supposedStates, at) !== entry.round) return undefined;
    return supposedRowOf(this.#memory, entry.row, tokens - 1);
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

  /** Rows and threads are few, so one tenant never has them all. */
  #refuseCrowd(tenant: string): void {
    const { grammarTenantSequencesMax: most } = this.#options.limits;
    let own = 0;
    for (const entry of this.#entries.values()) if (entry.tenant === tenant) own++;
    if (own < most) return;
    throw new HubError(
      "rate_limit_exceeded",
      `${own} of your answers follow a grammar at present, and no more may. Try again when some have ended.`,
      { retryAfterMs: 1000 },
    );
  }

  #begin(entry: Entry): void {
    Atomics.store(this.#memory.states, entry.row, states.empty);
    const first = entry.row * supposedMax;
    this.#memory.supposedStates.fill(0, first, first + supposedMax);
    entry.thread.begin(entry);
  }

  /** Guesses whose masks are late are lost, and nothing else is: all of them together are hardly waited for. */
  #awaitSupposed({ row, round, supposed }: Entry, untilMs: number): void {
    const { supposedStates } = this.#memory;
    const last = row * supposedMax + supposed - 1;
    const state = Atomics.load(supposedStates, last);
    const leftMs = untilMs - this.#nowMs();
    if (Math.abs(state) !== round && leftMs > 0) Atomics.wait(supposedStates, last, state, leftMs);
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
      // How long a thread takes to load is no grammar's fault.
      if (!entry.thread.isLoaded) entry.missedSinceMs = nowMs;
      entry.missedSinceMs ??= nowMs;
      if (nowMs - entry.missedSinceMs > this.#options.limits.grammarMsMax) entry.thread.kill();
      if (nowMs >= untilMs) return false;
      Atomics.wait(shared, entry.row, state, sliceMs);
      // The news of a thread's death, or of one begun anew, come between two turns of the event loop.
      if (Atomics.load(shared, entry.row) === state) await nextTurn();
    }
    return true;
  }

  /**
   * One that has compiled the grammar; else an idle one, a new one, or the one with the fewest sequences of others: those
   * of a tenant wait for its own large grammars before anybody else's do.
   */
  #threadFor({ grammar, tenant }: Pick<Entry, "grammar" | "tenant">): MaskThread {
    const known = this.#threads.find((thread) => thread.knows(grammar));
    if (known) return known;
    const idle = this.#threads.find(({ load }) => load === 0);
    if (idle) return idle;
    if (this.#threads.length < this.#options.limits.grammarThreadsMax) return this.#newThread();
    const [least] = this.#threads.toSorted(
      (a, b) => a.loadOfOthers(tenant) - b.loadOfOthers(tenant) || a.load - b.load,
    );
    invariant(least, "there is room for one thread at least");
    return least;
  }

  #newThread(): MaskThread {
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
        entry.thread = this.#threadFor(entry);
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
  /** By tenant: the last of its grammars that was begun, by their number. */
  readonly #begun = new Map<string, number>();
  #begins = 0;
  #culprit: Culprit | undefined;
  #isLoaded = false;
  #isKilled = false;
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

  /** Whether it has begun with what it was told. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  get load(): number {
    return this.#entries.size;
  }

  /** Sequences that somebody else's grammar would hold up here. */
  loadOfOthers(tenant: string): number {
    let others = 0;
    for (const entry of this.#entries) if (entry.tenant !== tenant) others++;
    return others;
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
    if (this.#isKilled) return;
    this.#isKilled = true;
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
    if (this.#opening || !this.#isLoaded) return;
    const entry = this.#nextTurn();
    if (!entry) return;
    const timer = setTimeout(() => this.kill(), this.#owner.msMax);
    this.#opening = { entry, timer };
    this.tell({ type: "open", row: entry.row, grammar: entry.grammar, said: entry.said });
  }

  /** The oldest of the tenant whose last one was begun longest ago: many grammars of one hold up no other's single one. */
  #nextTurn(): Entry | undefined {
    if (this.#waiting.length === 0) this.#begun.clear();
    const turnOf = ({ tenant }: Entry) => this.#begun.get(tenant) ?? 0;
    const [next] = this.#waiting.toSorted((a, b) => turnOf(a) - turnOf(b));
    if (!next) return undefined;
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    this.#begun.set(next.tenant, ++this.#begins);
    return next;
  }

  #hear(message: FromMaskWorker): void {
    switch (message.type) {
      case "ready":
        this.#isLoaded = true;
        this.#openNext();
        return;
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

/** How long the engine's thread sleeps at a time for a mask that is late. */
const sliceMs = 5;
/** How much of the time that a step waits for masks it waits for those behind guesses. */
const supposedWaitShare = 0.2;
const revivalsMax = 3;
