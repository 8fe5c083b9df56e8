/**
 * Which tokens the grammars of the sequences allow next. Threads of their own find that out while the engine computes
 * the step that the masks are for. For one that is late the engine waits some milliseconds; then the sequence sits out.
 */
import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import {
  createMaskMemory,
  type MaskMemory,
  rowOf,
  states,
  supposedMax,
  supposedRowOf,
} from "../output/grammar/mask-memory.ts";
import type { Supposed } from "../output/grammar/mask-worker.ts";
import type { Grammar } from "../output/grammar/matchers.ts";
import type { Vocabulary } from "../output/grammar/vocabulary.ts";
import { type Culprit, type Entry, MaskThread, TenantTurns } from "./mask-thread.ts";

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
  /** Threads that match what compiles quickly; one tries new grammars beside them, and one has those that take longer. */
  grammarThreadsMax: number;
  /** How long a grammar may take to compile where others wait for it. */
  grammarQuickMsMax: number;
  /** How long it may take at all, and one mask to be found. */
  grammarMsMax: number;
  /** How long a step waits for masks that are late; then their sequences sit it out. */
  grammarWaitMsMax: number;
  /** Memory of one thread's matcher. */
  grammarBytesMax: number;
  /** Compiled grammars that one thread keeps. */
  grammarsCachedMax: number;
};

export class GrammarMasks {
  readonly #options: GrammarMasksOptions;
  readonly #memory: MaskMemory;
  readonly #freeRows: number[];
  readonly #entries = new Map<number, Entry>();
  readonly #lanes: Record<LaneName, Lane> = { trial: newLane(), quick: newLane(), slow: newLane() };
  /** Of grammars by key, the last ones last: whether they compile quickly. */
  readonly #paces = new Map<string, "quick" | "slow">();
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
    const key = createHash("sha256").update(grammar.ebnf).digest("base64");
    const thread = this.#threadFor({ key, tenant });
    const entry: Entry = {
      ...{ row, tenant, grammar, key, said: [], thread, onOpened, revivals: 0 },
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
   * Waits until the masks of these are there, or never will be; but not long, since nobody else is served meanwhile. One
   * that was late the last time is waited for again only where nobody could go on without it.
   * @param ids of all whose tokens are to be chosen
   * @returns those whose masks are still to come
   */
  async ready(ids: Iterable<number>): Promise<ReadonlySet<number>> {
    const late = new Set<number>();
    const { grammarWaitMsMax } = this.#options.limits;
    const untilMs = this.#nowMs() + grammarWaitMsMax;
    const supposing: Entry[] = [];
    const all = [...ids].map((id) => ({ id, entry: this.#entries.get(id) }));
    const wasLate = (entry: Entry | undefined) => Number(entry?.missedSinceMs !== undefined);
    let goOn = 0;
    for (const { id, entry } of all.toSorted((a, b) => wasLate(a.entry) - wasLate(b.entry))) {
      const isAwaited = goOn === 0 || wasLate(entry) === 0;
      if (entry && !(await this.#isReady(entry, isAwaited ? untilMs : 0))) {
        late.add(id);
        continue;
      }
      goOn++;
      if (entry && entry.supposed > 0) supposing.push(entry);
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
    const threads = Object.values(this.#lanes).flatMap((lane) => lane.threads.splice(0));
    await Promise.all(threads.map((thread) => thread.end()));
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
   * Nobody's grammar holds up another's for longer than `grammarQuickMsMax`. One that is new is tried first, where nobody
   * follows any; what compiles in that time is compiled once more where others are followed, and what does not is compiled
   * and followed where all of its kind are. Who has one there tries no other meanwhile.
   */
  #threadFor({ key, tenant }: Pick<Entry, "key" | "tenant">): MaskThread {
    const { quick, slow } = this.#lanes;
    const all = [...quick.threads, ...slow.threads];
    const following = all.find((thread) => thread.follows(key));
    if (following) return following;
    const pace = this.#paces.get(key);
    if (pace === "quick") return this.#quickThread({ key, tenant });
    const isSlow = pace === "slow" || slow.threads.some((thread) => thread.isUsedBy(tenant));
    if (isSlow) return slow.threads[0] ?? this.#newThread("slow");
    // It takes as long to start as the one that tries.
    if (quick.threads.length === 0) this.#newThread("quick");
    return this.#lanes.trial.threads[0] ?? this.#newThread("trial");
  }

  /** One that has compiled the grammar; else an idle one, a new one, or the one with the fewest sequences of others. */
  #quickThread({ key, tenant }: Pick<Entry, "key" | "tenant">): MaskThread {
    const { threads } = this.#lanes.quick;
    const known = threads.find((thread) => thread.knows(key));
    if (known) return known;
    const idle = threads.find(({ load }) => load === 0);
    if (idle) return idle;
    if (threads.length < this.#options.limits.grammarThreadsMax) return this.#newThread("quick");
    const [least] = threads.toSorted(
      (a, b) => a.loadOfOthers(tenant) - b.loadOfOthers(tenant) || a.load - b.load,
    );
    invariant(least, "there is room for one thread at least");
    return least;
  }

  #newThread(name: LaneName): MaskThread {
    const { limits, ...shared } = this.#options;
    const lane = this.#lanes[name];
    const { grammarQuickMsMax, grammarMsMax, grammarsCachedMax } = limits;
    // A machine that was busy made a quick one look slow.
    const onCompiled = ({ key }: Entry, ms: number) => {
      if (ms <= grammarQuickMsMax) this.#setPace(key, "quick");
    };
    const thread = new MaskThread(
      {
        ...shared,
        grammarsMax: name === "trial" ? 0 : grammarsCachedMax,
        memory: this.#memory,
        busy: new Int32Array(new SharedArrayBuffer(4)),
        wasmBytesMax: limits.grammarBytesMax,
      },
      {
        msMax: name === "trial" ? grammarQuickMsMax : grammarMsMax,
        grammarsMax: grammarsCachedMax,
        turns: lane.turns,
        onTried: name === "trial" ? (entry) => this.#onTried(entry) : undefined,
        onCompiled: name === "slow" ? onCompiled : undefined,
        onFree: (row) => this.#freeRows.push(row),
        onDeath: (dead, culprit) => this.#onDeath(dead, culprit, name),
      },
    );
    lane.threads.push(thread);
    return thread;
  }

  #onTried(entry: Entry): void {
    this.#setPace(entry.key, "quick");
    entry.thread = this.#quickThread(entry);
    this.#begin(entry);
  }

  #setPace(key: string, pace: "quick" | "slow"): void {
    this.#paces.delete(key);
    this.#paces.set(key, pace);
    const [oldest] = this.#paces.keys();
    if (this.#paces.size > pacesMax && oldest !== undefined) this.#paces.delete(oldest);
  }

  /** What the thread worked on fails, or is slow; all others of it are begun anew elsewhere, from their tokens. */
  #onDeath(dead: MaskThread, culprit: Culprit | undefined, name: LaneName): void {
    const lane = this.#lanes[name];
    lane.threads = lane.threads.filter((thread) => thread !== dead);
    const left = [...this.#entries.values()].filter(({ thread }) => thread === dead);
    for (const entry of left) {
      if (entry.row === culprit?.row) {
        if (name !== "trial" || !dead.isLate) {
          this.#fail(entry, culprit.error);
          continue;
        }
        this.#setPace(entry.key, "slow");
      } else if (culprit === undefined && entry.revivals++ >= revivalsMax) {
        this.#fail(entry, new Error("mask threads die"));
        continue;
      }
      // The new thread has all the time that the old one had: the delay is another's fault.
      entry.missedSinceMs = undefined;
      entry.thread = this.#threadFor(entry);
      this.#begin(entry);
    }
  }

  #fail(entry: Entry, error: unknown): void {
    entry.error = error;
    entry.onOpened?.(error);
    entry.onOpened = undefined;
  }
}

/** How long the engine's thread sleeps at a time for a mask that is late. */
const sliceMs = 5;
/** How much of the time that a step waits for masks it waits for those behind guesses. */
const supposedWaitShare = 0.2;
const revivalsMax = 3;

/** Where new grammars are tried, where those are followed that compile quickly, and where all others are. */
type LaneName = "trial" | "quick" | "slow";
type Lane = { threads: MaskThread[]; readonly turns: TenantTurns };

function newLane(): Lane {
  return { threads: [], turns: new TenantTurns() };
}

/** Grammars of which it is known whether they compile quickly. */
const pacesMax = 10_000;
