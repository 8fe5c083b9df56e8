/** Decides what each step computes: who runs, with which blocks and slot, and who has to wait. No tensors. */
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import type { BlockManager, Prefix } from "./block-manager.ts";
import { FairQueue, insertByArrival } from "./fair-queue.ts";
import { statesWanted } from "./pooling.ts";
import { PrefixSharing } from "./prefix-sharing.ts";
import { PromptLookup } from "./prompt-lookup.ts";
import {
  type Chosen,
  remaining,
  type Sequence,
  type SequenceEvent,
  type SequenceRequest,
} from "./sequence.ts";
import type { SlotTable } from "./slot-table.ts";
import { Speculation, type SpeculationStats } from "./speculation.ts";
import type { StepRow } from "./types.ts";
import { type WaitingLimits, WaitingRoom } from "./waiting-room.ts";

export type SchedulerLimits = WaitingLimits & {
  /** Tokens computed in one step, decode and prefill together. */
  stepTokensMax: number;
  /** Tokens of one prompt computed in one step, so that others keep decoding meanwhile. */
  prefillChunkMax: number;
  /** Tokens that one step decodes, guessed ones included, up to which tokens are guessed; 0 for never. */
  speculationTokensMax: number;
  /** How long a sequence waits for an adapter slot before one is kept free for it. */
  slotWaitMsMax: number;
};

/** One step: first copy adapters into slots, then compute the rows. */
export type StepPlan = {
  loads: { slot: number; digest: string }[];
  decode: StepRow[];
  prefill: StepRow[];
};

/**
 * What became of a row: computed, or failed. One that is sampled has chosen a token for each of its guesses that
 * held, and one more.
 */
export type RowOutcome =
  | { type: "computed"; row: StepRow; chosen: readonly Chosen[]; embedding?: Float32Array }
  | { type: "failed"; row: StepRow; error: unknown };

export type SchedulerStats = {
  running: number;
  waiting: number;
  /** Of the waiting, those that could run if an adapter slot were free. */
  waitingForSlot: number;
  blocksUsed: number;
  blocksTotal: number;
  /** Tokens of prompts that were looked for in the prefix cache, and those that were there. */
  prefixTokensQueried: number;
  prefixTokensHit: number;
  speculation: SpeculationStats;
  preemptions: number;
  /** Digest by slot, slot 1 first. */
  slots: (string | undefined)[];
  /** Running sequences by adapter digest. */
  runningByAdapter: Record<string, number>;
  waitingByAdapter: Record<string, number>;
};

/**
 * Continuous batching. Running sequences decode first, prompts fill what the step's budget leaves,
 * and waiting sequences join while there is room. Between tenants the one that was served least comes
 * first, within a tenant the oldest. Every plan can be computed again until it is committed.
 * @see Orca (OSDI 2022) for steps as iterations, vLLM (SOSP 2023) for preemption by recompute
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #blocks: BlockManager;
  readonly #slots: SlotTable;
  readonly #nowMs: () => number;
  readonly #sequences = new Map<number, Sequence>();
  readonly #queue = new FairQueue<Sequence>();
  readonly #room: WaitingRoom;
  readonly #prefixes: PrefixSharing;
  readonly #speculation: Speculation;
  /** Oldest first. */
  #running: Sequence[] = [];
  #arrivals = 0;
  #preemptions = 0;

  constructor(parts: {
    limits: SchedulerLimits;
    blocks: BlockManager;
    slots: SlotTable;
    /** Whether sequences use the blocks of others that began alike. */
    prefixCache: boolean;
    nowMs: () => number;
  }) {
    const { stepTokensMax, sequencesMax, speculationTokensMax } = parts.limits;
    invariant(stepTokensMax >= sequencesMax, "every running sequence may decode in every step");
    this.#limits = parts.limits;
    this.#blocks = parts.blocks;
    this.#slots = parts.slots;
    this.#nowMs = parts.nowMs;
    this.#room = new WaitingRoom(parts.limits, this.#queue);
    this.#prefixes = new PrefixSharing(parts.blocks, parts.prefixCache);
    // However well guesses hold, prompts that come find half of a step.
    const guessingMax = Math.min(speculationTokensMax, Math.floor(stepTokensMax / 2));
    this.#speculation = new Speculation(guessingMax);
  }

  get isIdle(): boolean {
    return this.#sequences.size === 0;
  }

  /** Whether any sequence, running or waiting, needs this adapter. */
  needs(digest: string): boolean {
    for (const sequence of this.#sequences.values()) if (sequence.adapter === digest) return true;
    return false;
  }

  /** Whether its rows are computed apart from others'. */
  runsApart(id: number): boolean {
    return this.#sequences.get(id)?.apart === true;
  }

  /** What a sequence asks for, and its tokens so far. */
  sequence(id: number): Readonly<SequenceRequest & { tokens: readonly number[] }> | undefined {
    return this.#sequences.get(id);
  }

  /** Digest of what sits in the slot that the sequence runs in. */
  adapterInUse(id: number): string | undefined {
    const slot = this.#sequences.get(id)?.slot ?? 0;
    return slot === 0 ? undefined : this.#slots.digestOf(slot);
  }

  /**
   * Puts a sequence into the queue.
   * @returns what those hear who had to make way for it
   * @throws HubError `server_is_overloaded` when the queue is full, `context_length_exceeded` when the
   *   sequence could not run even alone, `unsupported_model` when there are no adapter slots
   */
  add(request: SequenceRequest): SequenceEvent[] {
    if (request.prompt.length + request.maxTokens > this.#blocks.tokensMax) {
      throw new HubError(
        "context_length_exceeded",
        `The KV cache holds ${this.#blocks.tokensMax} tokens; the request has ${request.prompt.length} in its messages and asks for ${request.maxTokens} more.`,
        { param: "messages" },
      );
    }
    if (request.adapter !== undefined && this.#slots.size === 0) {
      throw new HubError("unsupported_model", "This server has no adapter slots.", {
        param: "model",
      });
    }
    const leaving = this.#room.makeRoomFor(request.tenant);
    if (leaving) this.#remove(leaving);
    const sequence: Sequence = {
      ...request,
      arrival: this.#arrivals++,
      startedAtMs: this.#nowMs(),
      tokens: [...request.prompt],
      computed: 0,
      blockNames: [],
      cachedTokens: undefined,
      slot: 0,
      lookup: new PromptLookup(),
      slotMissedAtMs: undefined,
    };
    this.#sequences.set(sequence.id, sequence);
    this.#queue.push(sequence);
    return leaving ? [this.#room.turnedAway(leaving)] : [];
  }

  /** Sends those away who have waited too long; a client gives up in silence, and this tells it when to come. */
  expire(): SequenceEvent[] {
    const overdue = this.#room.overdue(this.#nowMs());
    for (const sequence of overdue) this.#remove(sequence);
    return overdue.map((sequence) => this.#room.turnedAway(sequence));
  }

  /** Forgets the sequence; its blocks and slot are free at once. False when it is not known. */
  cancel(id: number): boolean {
    const sequence = this.#sequences.get(id);
    if (!sequence) return false;
    this.#remove(sequence);
    return true;
  }

  /** Takes the adapter out of its slot; no sequence may need it. @returns the slot, if it had one */
  unload(digest: string): number | undefined {
    return this.#slots.unload(digest);
  }

  /** The next step. Empty when nobody can run, which with sequences present never lasts. */
  plan(): StepPlan {
    const plan: StepPlan = { loads: [], decode: [], prefill: [] };
    const preempted = this.#planDecode(plan);
    this.#planPrefill(plan);
    // Who was preempted in this step would only take the blocks again that others were given.
    if (!preempted) this.#admit(plan);
    return plan;
  }

  /** The weights could not be copied into the slot: all that wait for them fail, the others run. */
  loadFailed(plan: StepPlan, slot: number, error: unknown): SequenceEvent[] {
    const victims = this.#running.filter((sequence) => sequence.slot === slot);
    const ids = new Set(victims.map((sequence) => sequence.id));
    for (const sequence of victims) this.#remove(sequence);
    this.#slots.vacate(slot);
    plan.decode = plan.decode.filter((row) => !ids.has(row.sequenceId));
    plan.prefill = plan.prefill.filter((row) => !ids.has(row.sequenceId));
    return victims.map(({ id }) => ({ id, error }));
  }

  /** Takes over what the step computed. Rows that failed end their sequence and no other. */
  commit(outcomes: readonly RowOutcome[]): SequenceEvent[] {
    const events: SequenceEvent[] = [];
    for (const outcome of outcomes) {
      const sequence = this.#sequences.get(outcome.row.sequenceId);
      if (!sequence) continue;
      if (outcome.type === "failed") {
        // Whatever it was, nobody else shall begin with what this sequence computed.
        this.#blocks.discard(sequence.id);
        this.#remove(sequence);
        events.push({ id: sequence.id, error: outcome.error });
        continue;
      }
      events.push(...this.#take(sequence, outcome));
    }
    return events;
  }

  stats(): SchedulerStats {
    let waitingForSlot = 0;
    const runningByAdapter: Record<string, number> = {};
    const waitingByAdapter: Record<string, number> = {};
    for (const { adapter } of this.#running) if (adapter) count(runningByAdapter, adapter);
    for (const { adapter, slotMissedAtMs } of this.#queue.waiting()) {
      if (adapter) count(waitingByAdapter, adapter);
      if (slotMissedAtMs !== undefined) waitingForSlot++;
    }
    return {
      running: this.#running.length,
      waiting: this.#queue.size,
      waitingForSlot,
      blocksUsed: this.#blocks.used,
      blocksTotal: this.#blocks.total,
      prefixTokensQueried: this.#prefixes.tokensQueried,
      prefixTokensHit: this.#prefixes.tokensHit,
      speculation: { ...this.#speculation.stats },
      preemptions: this.#preemptions,
      slots: this.#slots.residents(),
      runningByAdapter,
      waitingByAdapter,
    };
  }

  /** Blocks, slots, queues and counters agree. Walks everything: for tests. */
  check(): void {
    this.#blocks.check();
    this.#slots.check((slot) => this.#running.filter((other) => other.slot === slot).length);
  }

  /** One row for each running sequence that lacks a single token. True when somebody lost its blocks. */
  #planDecode(plan: StepPlan): boolean {
    const preemptionsBefore = this.#preemptions;
    const decoding: Sequence[] = [];
    for (const sequence of [...this.#running]) {
      if (!decodes(sequence) || !this.#running.includes(sequence)) continue;
      if (this.#makeRoom(sequence)) decoding.push(sequence);
    }
    let room = this.#speculation.room(decoding.length);
    for (const [index, sequence] of decoding.entries()) {
      const guesses = this.#guess(sequence, Math.floor(room / (decoding.length - index)));
      room -= guesses.length;
      plan.decode.push(this.#row(sequence, 1, guesses));
    }
    return this.#preemptions > preemptionsBefore;
  }

  #planPrefill(plan: StepPlan): void {
    for (const sequence of this.#running) {
      if (decodes(sequence)) continue;
      const chunk = this.#chunk(plan, remaining(sequence));
      if (chunk === 0) return;
      plan.prefill.push(this.#row(sequence, chunk));
    }
  }

  /** Lets waiting sequences in while there are places, tokens in the step's budget, blocks and slots. */
  #admit(plan: StepPlan): void {
    this.#slots.keepPromises((digest) => this.#isWaitedFor(digest));
    for (const sequence of this.#queue.turns()) {
      const prefix = this.#prefixes.find(sequence);
      if (this.#prefixes.isBeingComputed(sequence, prefix, this.#running)) continue;
      const cached = prefix.blocks.length * this.#blocks.blockSize;
      const chunk = this.#chunk(plan, sequence.tokens.length - cached);
      // Whoever is next keeps its turn: smaller ones behind it must not eat up the room it waits for.
      if (chunk === 0 || !this.#hasRoomFor(sequence, prefix)) return;
      if (!this.#giveSlot(plan, sequence)) continue;
      this.#start(sequence, prefix);
      plan.prefill.push(this.#row(sequence, chunk));
    }
  }

  /**
   * A place, room for the whole prompt, and a further block for everybody: else the next decode step would
   * preempt the newcomer, and its prefill would be computed again and again.
   */
  #hasRoomFor(sequence: Sequence, prefix: Prefix): boolean {
    if (this.#running.length >= this.#limits.sequencesMax) return false;
    const spare = this.#running.length === 0 ? 0 : this.#running.length + 1;
    const shared = prefix.blocks.length - prefix.idle;
    return this.#blocks.blocksFor(sequence.tokens.length) - shared + spare <= this.#blocks.free;
  }

  /** True when the sequence has what it needs: no adapter at all, or a slot that holds it. */
  #giveSlot(plan: StepPlan, sequence: Sequence): boolean {
    if (sequence.adapter === undefined) return true;
    const grant = this.#slots.acquire(sequence.adapter);
    if (!grant) {
      this.#awaitSlot(sequence, sequence.adapter);
      return false;
    }
    sequence.slot = grant.slot;
    if (grant.load) plan.loads.push({ slot: grant.slot, digest: sequence.adapter });
    return true;
  }

  /**
   * After a while a slot is promised to the adapter that waits, so that a stream of requests for
   * adapters that are loaded cannot keep it out for ever: the slot that will be free soonest.
   */
  #awaitSlot(sequence: Sequence, digest: string): void {
    const nowMs = this.#nowMs();
    sequence.slotMissedAtMs ??= nowMs;
    if (nowMs - sequence.slotMissedAtMs < this.#limits.slotWaitMsMax) return;
    if (this.#slots.isPromisedTo(digest)) return;
    let best: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const slot of this.#slots.unpromised()) {
      const left = this.#tokensLeftIn(slot);
      if (left < least) [best, least] = [slot, left];
    }
    if (best !== undefined) this.#slots.promise(best, digest);
  }

  #tokensLeftIn(slot: number): number {
    let most = 0;
    for (const sequence of this.#running) {
      if (sequence.slot !== slot) continue;
      most = Math.max(most, sequence.prompt.length + sequence.maxTokens - sequence.computed);
    }
    return most;
  }

  #isWaitedFor(digest: string): boolean {
    for (const { adapter } of this.#queue.waiting()) if (adapter === digest) return true;
    return false;
  }

  /** Grows the sequence by its next token; younger sequences make way, the youngest first. */
  #makeRoom(sequence: Sequence): boolean {
    while (!this.#blocks.grow(sequence.id, sequence.tokens.length)) {
      const youngest = this.#running.at(-1)!;
      this.#preempt(youngest);
      if (youngest === sequence) return false;
    }
    return true;
  }

  /** Guesses at what the sequence says next; where blocks are short, only as many as those it holds have room for. */
  #guess(sequence: Sequence, max: number): number[] {
    const { blockSize, free } = this.#blocks;
    const { id, tokens } = sequence;
    const held = this.#blocks.blocksOf(id).length * blockSize - tokens.length;
    const fit = free > this.#running.length ? held + blockSize : held;
    const guesses = this.#speculation.guess(sequence, Math.min(max, fit));
    this.#blocks.grow(id, tokens.length + guesses.length);
    return guesses;
  }

  /** Back into the queue without its blocks; what it has generated is prompt when it runs again. */
  #preempt(sequence: Sequence): void {
    this.#preemptions++;
    this.#stop(sequence);
    sequence.computed = 0;
    this.#queue.push(sequence);
  }

  /** Takes over what a row computed and the tokens that were chosen in it, up to the one that ends the sequence. */
  #take(
    sequence: Sequence,
    { row, chosen, embedding }: Extract<RowOutcome, { type: "computed" }>,
  ): SequenceEvent[] {
    const events: SequenceEvent[] = [];
    for (const { token, logprobs } of chosen) {
      const event = this.#say(sequence, token);
      events.push({ ...event, ...(logprobs && { logprobs }) });
      if (event.finish !== undefined) break;
    }
    // What was computed of guesses that did not hold lies behind that, and is written over.
    sequence.computed = row.position + row.tokens.length - row.samples + events.length;
    this.#prefixes.publish(sequence);
    if (embedding) {
      const { id, cachedTokens = 0 } = sequence;
      events.push({ id, embedding, cachedTokens, finish: "stop" });
    }
    this.#speculation.observe(sequence, row.samples - 1, chosen.length - 1);
    if (events.at(-1)?.finish !== undefined) this.#end(sequence);
    return events;
  }

  #say(sequence: Sequence, token: number): SequenceEvent {
    sequence.tokens.push(token);
    this.#queue.charge(sequence, 1);
    const generated = sequence.tokens.length - sequence.prompt.length;
    const finish = sequence.stopIds.includes(token)
      ? "stop"
      : generated >= sequence.maxTokens
        ? "length"
        : undefined;
    const event: SequenceEvent = { id: sequence.id, token };
    if (generated === 1) event.cachedTokens = sequence.cachedTokens ?? 0;
    if (finish !== undefined) event.finish = finish;
    return event;
  }

  #end(sequence: Sequence): void {
    this.#room.observe(this.#nowMs() - sequence.startedAtMs);
    this.#remove(sequence);
  }

  #start(sequence: Sequence, prefix: Prefix): void {
    this.#prefixes.begin(sequence, prefix);
    this.#blocks.grow(sequence.id, sequence.tokens.length);
    this.#queue.start(sequence, remaining(sequence));
    sequence.slotMissedAtMs = undefined;
    insertByArrival(this.#running, sequence);
  }

  #stop(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1);
    this.#queue.stop(sequence);
    this.#blocks.release(sequence.id);
    if (sequence.slot !== 0) this.#slots.release(sequence.slot);
    sequence.slot = 0;
  }

  #remove(sequence: Sequence): void {
    this.#sequences.delete(sequence.id);
    if (!this.#queue.remove(sequence)) this.#stop(sequence);
  }

  /** How many of the tokens that a sequence lacks this step may compute. */
  #chunk(plan: StepPlan, missing: number): number {
    let budget = this.#limits.stepTokensMax;
    for (const row of plan.decode) budget -= row.tokens.length;
    for (const row of plan.prefill) budget -= row.tokens.length;
    return Math.max(0, Math.min(budget, this.#limits.prefillChunkMax, missing));
  }

  #row(sequence: Sequence, length: number, guesses: readonly number[] = []): StepRow {
    const end = sequence.computed + length;
    return {
      sequenceId: sequence.id,
      tokens: [...sequence.tokens.slice(sequence.computed, end), ...guesses],
      position: sequence.computed,
      blocks: this.#blocks.blocksOf(sequence.id),
      slot: sequence.slot,
      ...wanted(sequence, { length, guesses: guesses.length }),
    };
  }
}

/** Whether its next row is a decode row; one that is pooled only ever has chunks of its prompt. */
function decodes(sequence: Sequence): boolean {
  return sequence.pooling === undefined && remaining(sequence) === 1;
}

/** What is asked of a row beside keys and values: only that of a sequence's last tokens tells what comes next. */
function wanted(
  sequence: Sequence,
  { length, guesses }: { length: number; guesses: number },
): Pick<StepRow, "samples" | "states"> {
  const endsSequence = sequence.computed + length === sequence.tokens.length;
  const { pooling } = sequence;
  if (pooling !== undefined) {
    return { samples: 0, states: statesWanted(pooling, { tokens: length, endsSequence }) };
  }
  return { samples: endsSequence ? 1 + guesses : 0 };
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}
