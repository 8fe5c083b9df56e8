/** A thread that compiles grammars and finds masks, as the engine's thread sees it: what it was told, and how it ends. */
import type { Worker } from "node:worker_threads";
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import type {
  FromMaskWorker,
  MaskWorkerOptions,
  ToMaskWorker,
} from "../output/grammar/mask-worker.ts";
import type { Grammar } from "../output/grammar/matchers.ts";
import { startWorker } from "../start-worker.ts";
import { fromWireError } from "./messages.ts";

/** A sequence that follows a grammar. */
export type Entry = {
  row: number;
  tenant: string;
  grammar: Grammar;
  /** What its grammar is known by. */
  key: string;
  said: number[];
  thread: MaskThread;
  /** Called once, when the first mask is there or never will be. */
  onOpened: ((error?: unknown) => void) | undefined;
  /** Since when the engine would have its next mask; absent while it is there. */
  missedSinceMs?: number | undefined;
  /** Times that it was supposed to say something, and how many tokens last, where that has not come true or false yet. */
  round: number;
  supposed: number;
  /** Times in a row that it was begun anew because its thread died of nothing that is known. */
  revivals: number;
  error?: unknown;
};

export type Culprit = { row: number; error: unknown };

/** Which tenant's grammar comes next. Whoever waits takes turns with the others, however often threads are ended meanwhile. */
export class TenantTurns {
  /** By tenant: the last of its grammars that was begun, by their number. */
  readonly #begun = new Map<string, number>();
  #begins = 0;

  /** Takes the oldest of the tenant whose last one was begun longest ago: many grammars of one hold up no other's single one. */
  take(waiting: Entry[]): Entry | undefined {
    if (waiting.length === 0) this.#begun.clear();
    const turnOf = ({ tenant }: Entry) => this.#begun.get(tenant) ?? 0;
    const [next] = waiting.toSorted((a, b) => turnOf(a) - turnOf(b));
    if (!next) return undefined;
    waiting.splice(waiting.indexOf(next), 1);
    this.#begun.set(next.tenant, ++this.#begins);
    return next;
  }
}

/** One thread, what it was told to do, and how it ends. */
export class MaskThread {
  readonly #worker: Worker;
  readonly #busy: Int32Array;
  readonly #owner: MaskThreadOwner;
  /** Sequences that it has been given, the ones that wait to be begun included. */
  readonly #entries = new Set<Entry>();
  /** Compiled here, as far as we know, the last ones last; what was dropped meanwhile is compiled again. */
  readonly #grammars = new Set<string>();
  /** Begun one after the other, so that a grammar that takes too long is known. */
  readonly #waiting: Entry[] = [];
  #opening: { entry: Entry; timer: NodeJS.Timeout } | undefined;
  #culprit: Culprit | undefined;
  #isLoaded = false;
  #isKilled = false;
  #isGone = false;
  /** Whether it was ended because a grammar took too long to compile. */
  isLate = false;
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
      this.#isGone = true;
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

  get #isIdle(): boolean {
    return Atomics.load(this.#busy, 0) === 0;
  }

  get load(): number {
    return this.#entries.size;
  }

  isUsedBy(tenant: string): boolean {
    for (const entry of this.#entries) if (entry.tenant === tenant) return true;
    return false;
  }

  /** Sequences that somebody else's grammar would hold up here. */
  loadOfOthers(tenant: string): number {
    let others = 0;
    for (const entry of this.#entries) if (entry.tenant !== tenant) others++;
    return others;
  }

  /** Whether it can begin with the grammar at once, as far as we know. */
  knows(key: string): boolean {
    return this.#grammars.has(key);
  }

  /** Whether somebody follows the grammar here, so that it is not dropped. */
  follows(key: string): boolean {
    for (const entry of this.#entries) if (entry.key === key && !entry.onOpened) return true;
    return false;
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
    if (this.#isGone) {
      // Nobody writes to the row any more, and nobody would tell that it is left.
      this.#owner.onFree(entry.row);
      return;
    }
    this.#leaving.add(entry.row);
    this.tell({ type: "close", row: entry.row });
  }

  /** Ends it because it takes too long, for whatever it works on. */
  kill(): void {
    // One that works on nothing has not come to it yet: the machine is what is late.
    if (this.#isKilled || this.#isIdle) return;
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
    const entry = this.#owner.turns.take(this.#waiting);
    if (!entry) return;
    const timer = setTimeout(() => this.#expire(entry), this.#owner.msMax);
    this.#opening = { entry, timer };
    const { row, grammar, said } = entry;
    if (this.#owner.onTried) this.tell({ type: "try", row, grammar });
    else this.tell({ type: "open", row, grammar, said });
  }

  /** The answer may have come while this thread was blocked; then it is taken up before this. */
  #expire(entry: Entry): void {
    setImmediate(() => {
      if (this.#opening?.entry !== entry || this.#isKilled) return;
      if (this.#isIdle) {
        this.#opening.timer = setTimeout(() => this.#expire(entry), this.#owner.msMax);
        return;
      }
      this.isLate = true;
      this.kill();
    });
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

  #onOpened({ row, compileMs, error }: Extract<FromMaskWorker, { type: "opened" }>): void {
    invariant(this.#opening?.entry.row === row, "grammars are begun one after the other");
    if (error) {
      this.#culprit = { row, error: fromWireError(error) };
      return;
    }
    const { entry, timer } = this.#opening;
    clearTimeout(timer);
    this.#opening = undefined;
    const { onTried, onCompiled, grammarsMax } = this.#owner;
    if (onTried) {
      // It may have been given up meanwhile.
      if (this.#entries.delete(entry)) onTried(entry);
    } else {
      this.#know(entry.key, grammarsMax);
      if (compileMs !== undefined) onCompiled?.(entry, compileMs);
      entry.onOpened?.();
      entry.onOpened = undefined;
    }
    this.#openNext();
  }

  #know(key: string, grammarsMax: number): void {
    this.#grammars.delete(key);
    this.#grammars.add(key);
    for (const oldest of this.#grammars) {
      if (this.#grammars.size <= grammarsMax) return;
      this.#grammars.delete(oldest);
    }
  }

  /** Whoever is worked on when a thread fails is what it fails of. */
  #accuse(error: unknown): void {
    const row = Atomics.load(this.#busy, 0) - 1;
    if (row >= 0) this.#culprit ??= { row, error };
  }
}

export type MaskThreadOwner = {
  /** How long a grammar may take to compile. */
  msMax: number;
  /** Compiled grammars that it keeps. */
  grammarsMax: number;
  turns: TenantTurns;
  /** Where grammars are only tried: called with each that can be compiled in that time. */
  onTried?: ((entry: Entry) => void) | undefined;
  /** Where it is of interest how long a grammar took. */
  onCompiled?: ((entry: Entry, ms: number) => void) | undefined;
  /** The thread no longer writes to the row. */
  onFree(row: number): void;
  onDeath(thread: MaskThread, culprit: Culprit | undefined): void;
};
