/**
 * The mask thread: while the engine computes a step, it takes up the tokens that the last step chose and writes which
 * ones may come next into memory that it shares with the engine.
 */
import { parentPort, workerData } from "node:worker_threads";
import { HubError, invariant } from "../../../sdk/protocol/errors.ts";
import { toWireError, type WireError } from "../../engine/messages.ts";
import { type MaskMemory, rowOf, states, supposedMax, supposedRowOf } from "./mask-memory.ts";
import { type Grammar, Matchers, type MatchersOptions } from "./matchers.ts";
import { limitMemory } from "./memory-limit.ts";

export type MaskWorkerOptions = MatchersOptions & {
  memory: MaskMemory;
  /** `[1]`: 1 + the row that is worked on, 0 for none; whoever looks after a death finds the culprit in it. */
  busy: Int32Array;
  wasmBytesMax: number;
};

export type ToMaskWorker =
  /** Whether the grammar can be compiled, and nothing else; answered as `open` is. */
  | { type: "try"; row: number; grammar: Grammar }
  | { type: "open"; row: number; grammar: Grammar; said: number[] }
  /** Rows, and the tokens that were chosen for them. */
  | { type: "advance"; pairs: [row: number, token: number][] }
  /** What texts may go on with: masks behind each of these tokens, which are then taken back. */
  | { type: "suppose"; texts: Supposed[] }
  | { type: "close"; row: number };

/** At most `supposedMax` tokens; the round is what their masks are published under. */
export type Supposed = { row: number; tokens: readonly number[]; round: number };

export type FromMaskWorker =
  /** It is loaded, and begins with what it was told. */
  | { type: "ready" }
  /** With how long that took, where the grammar had to be compiled. */
  | { type: "opened"; row: number; compileMs?: number | undefined; error?: WireError }
  /** The row is no longer written to. */
  | { type: "left"; row: number };

invariant(parentPort, "this file is the entry of a worker thread");
serve(parentPort, workerData as MaskWorkerOptions);

function serve(port: NonNullable<typeof parentPort>, options: MaskWorkerOptions): void {
  const { memory, busy } = options;
  const tell = (message: FromMaskWorker) => port.postMessage(message);
  limitMemory(options.wasmBytesMax);
  const complaints = hearComplaints();
  const matchers = new Matchers(options);
  /** How many tokens each row's text has. */
  const lengths = new Map<number, number>();
  const ends = new Set(options.endTokenIds);

  const writeMask = async (row: number) => {
    const mask = await matchers.mask(row);
    if (mask) rowOf(memory, row).set(mask);
    publish(row, (lengths.get(row) ?? 0) + 1);
  };
  const publish = (row: number, state: number) => {
    Atomics.store(memory.states, row, state);
    Atomics.notify(memory.states, row);
  };

  const begin = async (row: number, grammar: Grammar, said: number[]) => {
    complaints.length = 0;
    Atomics.store(busy, 0, row + 1);
    const startMs = performance.now();
    try {
      const isNew = await matchers.open(row, grammar, said);
      return isNew ? performance.now() - startMs : undefined;
    } catch (cause) {
      // An instance that has aborted is of no use to anyone, so the thread goes with it.
      tell({ type: "opened", row, error: toWireError(unreadable(complaints, cause)) });
      process.exit(1);
    }
  };

  const attempt = async ({ row, grammar }: Extract<ToMaskWorker, { type: "try" }>) => {
    const compileMs = await begin(row, grammar, []);
    await matchers.mask(row);
    matchers.close(row);
    tell({ type: "opened", row, compileMs });
  };

  const open = async ({ row, grammar, said }: Extract<ToMaskWorker, { type: "open" }>) => {
    const compileMs = await begin(row, grammar, said);
    lengths.set(row, said.length);
    await writeMask(row);
    tell({ type: "opened", row, compileMs });
  };

  const advance = async (pairs: [row: number, token: number][]) => {
    const last = new Map(pairs.map(([row], index) => [row, index]));
    const refused = new Set<number>();
    for (const [index, [row, token]] of pairs.entries()) {
      const length = lengths.get(row);
      if (length === undefined || refused.has(row)) continue;
      Atomics.store(busy, 0, row + 1);
      lengths.set(row, length + 1);
      if (!matchers.accept(row, token)) {
        refused.add(row);
        publish(row, states.refused);
      } else if (last.get(row) === index) await writeMask(row);
    }
  };

  const suppose = async ({ row, tokens, round }: Supposed) => {
    if (!lengths.has(row)) return;
    Atomics.store(busy, 0, row + 1);
    let accepted = 0;
    for (const [place, token] of tokens.entries()) {
      const goesOn = accepted === place && !ends.has(token) && matchers.accept(row, token);
      if (goesOn) {
        accepted++;
        const mask = await matchers.mask(row);
        if (mask) supposedRowOf(memory, row, place).set(mask);
      }
      const at = row * supposedMax + place;
      Atomics.store(memory.supposedStates, at, goesOn ? round : -round);
      Atomics.notify(memory.supposedStates, at);
    }
    matchers.rollBack(row, accepted);
  };

  const take = async (message: ToMaskWorker) => {
    switch (message.type) {
      case "try":
        await attempt(message);
        break;
      case "open":
        await open(message);
        break;
      case "advance":
        await advance(message.pairs);
        break;
      case "suppose":
        for (const text of message.texts) await suppose(text);
        break;
      case "close":
        matchers.close(message.row);
        lengths.delete(message.row);
        tell({ type: "left", row: message.row });
        break;
      default:
        message satisfies never;
    }
    Atomics.store(busy, 0, 0);
  };

  // One after the other, in the order in which they came.
  let last = matchers.prepare().then(() => tell({ type: "ready" }));
  port.on("message", (message: ToMaskWorker) => {
    last = last.then(() => take(message));
  });
}

function unreadable(complaints: readonly string[], cause: unknown): HubError {
  const fatal = complaints.find((line) => line.startsWith("[FATAL]"));
  if (fatal === undefined) {
    return new HubError("invalid_value", "The grammar takes more memory than it may.", { cause });
  }
  // The line begins with a path of the machine that built the package.
  const reason = fatal.replace(/^\[FATAL\] \S+:\d+: /, "").slice(0, reasonCharsMax);
  return new HubError("invalid_value", `The grammar cannot be read: ${reason}`, { cause });
}

/** xgrammar says what is wrong on the console and then aborts. */
function hearComplaints(): string[] {
  const lines: string[] = [];
  const hear = (...parts: unknown[]) => {
    if (lines.length < 100) lines.push(parts.join(" "));
  };
  console.error = hear;
  console.warn = hear;
  console.log = hear;
  return lines;
}

const reasonCharsMax = 300;
