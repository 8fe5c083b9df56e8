/** Decides what each step computes: who runs, with which blocks and slot, and who has to wait. No tensors. */
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { Admission, type AdmissionLimits } from "./admission.ts";
import type { BlockManager } from "./block-manager.ts";
import { CrowdCredit } from "./crowd-credit.ts";
import { FairQueue } from "./fair-queue.ts";
import { Families } from "./families.ts";
import { PrefixSharing } from "./prefix-sharing.ts";
import { PromptLookup } from "./prompt-lookup.ts";
import { PromptPace, type PromptPaceLimits } from "./prompt-pace.ts";
import { RunningSet } from "./running-set.ts";
import { countByAdapter, type SchedulerStats } from "./scheduler-stats.ts";
import type { Chosen, Sequence, SequenceEvent, SequenceRequest } from "./sequence.ts";
import type { SlotTable } from "./slot-table.ts";
import { Speculation } from "./speculation.ts";
import type { ForkOutcome, RowOutcome } from "./step-outcome.ts";
import { type StepPlan, withdraw } from "./step-plan.ts";
import { StepPlanner } from "./step-planner.ts";
import type { CallTimes } from "./types.ts";
import { deadlinePassed, type WaitingLimits, WaitingRoom } from "./waiting-room.ts";

export type SchedulerLimits = WaitingLimits &
  AdmissionLimits &
  PromptPaceLimits & {
    /** Tokens that one step decodes, guessed ones included, up to which tokens are guessed; 0 for never. */
    speculationTokensMax: number;
    /** After how long without a turn a priority comes as the one before it. */
    priorityAgeMs: number;
  };

/**
 * Continuous batching. Running sequences decode first, prompts fill what the step's budget leaves,
 * and waiting sequences join while there is room: earlier priorities first, between tenants the one that was
 * served least, within a tenant the oldest. Every plan can be computed again until it is committed.
 * @see Orca (OSDI 2022) for steps as iterations, vLLM (SOSP 2023) for preemption by recompute
 */
export class Scheduler {
  readonly #blocks: BlockManager;
  readonly #slots: SlotTable;
  readonly #nowMs: () => number;
  readonly #sequences = new Map<number, Sequence>();
  readonly #queue: FairQueue<Sequence>;
  readonly #room: WaitingRoom;
  readonly #prefixes: PrefixSharing;
  readonly #speculation: Speculation;
  readonly #running: RunningSet;
  readonly #families: Families;
  readonly #planner: StepPlanner;
  readonly #pace: PromptPace;
  readonly #credit = new CrowdCredit();
  #arrivals = 0;

  constructor(parts: {
    limits: SchedulerLimits;
    blocks: BlockManager;
    slots: SlotTable;
    /** Whether sequences use the blocks of others that began alike. */
    prefixCache: boolean;
    /** Whether a sequence that decodes alone is computed with other weights; false when absent. */
    singleWeights?: boolean;
    nowMs: () => number;
  }) {
    const { limits, blocks, slots } = parts;
    const { stepTokensMax, sequencesMax, speculationTokensMax } = limits;
    invariant(stepTokensMax >= sequencesMax, "every running sequence may decode in every step");
    this.#blocks = blocks;
    this.#slots = slots;
    this.#nowMs = parts.nowMs;
    this.#queue = new FairQueue({ ...limits, nowMs: parts.nowMs });
    this.#room = new WaitingRoom(limits, this.#queue);
    this.#prefixes = new PrefixSharing(blocks, parts.prefixCache);
    const shared = { blocks, slots, queue: this.#queue, prefixes: this.#prefixes };
    this.#running = new RunningSet(shared);
    this.#families = new Families(this.#running);
    // However well guesses hold, prompts that come find half of a step.
    const guessingMax = Math.min(speculationTokensMax, Math.floor(stepTokensMax / 2));
    this.#speculation = new Speculation(guessingMax);
    const joining = { ...shared, running: this.#running, families: this.#families };
    this.#pace = new PromptPace(limits);
    const admission = new Admission({ ...joining, limits, pace: this.#pace, credit: this.#credit });
    this.#planner = new StepPlanner({
      ...joining,
      admission,
      credit: this.#credit,
      speculation: this.#speculation,
      nowMs: parts.nowMs,
      rowsMax: sequencesMax,
      singleWeights: parts.singleWeights ?? false,
    });
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
   * @throws HubError `server_is_overloaded` when the queue is full, `rate_limit_exceeded` when it is full of the tenant's
   *   own, `context_length_exceeded` when the sequence could not run even alone, `unsupported_model` when there are no
   *   adapter slots
   */
  add(request: SequenceRequest): SequenceEvent[] {
    invariant(
      request.prompt.length > 0,
      "a sequence begins with a token: nothing would come after none",
    );
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
    const nowMs = this.#nowMs();
    const { priority = 0 } = request;
    if (this.isIdle) this.#room.open(nowMs);
    const leaving = this.#room.makeRoomFor({ ...request, priority }, nowMs);
    if (leaving) this.#remove(leaving);
    const sequence: Sequence = {
      ...request,
      priority,
      level: priority,
      arrival: this.#arrivals++,
      startedAtMs: nowMs,
      ranAtMs: undefined,
      preemptions: 0,
      steppedAt: 0,
      tokens: [...request.prompt],
      computed: 0,
      sharedMax: Number.POSITIVE_INFINITY,
      scored: [],
      blockNames: [],
      cachedTokens: undefined,
      paid: 0,
      behind: undefined,
      slot: 0,
      lookup: new PromptLookup(),
      slotMissedAtMs: undefined,
      placesMissedAtMs: undefined,
    };
    this.#sequences.set(sequence.id, sequence);
    this.#families.add(sequence);
    this.#queue.push(sequence);
    this.#planner.expect(sequence.tenant);
    return leaving ? [this.#room.displaced(leaving, nowMs)] : [];
  }

  /**
   * Ends those whose answer would come too late, and sends those away who have waited too long: a client gives up
   * in silence, and this tells it when to come.
   */
  expire(): SequenceEvent[] {
    const nowMs = this.#nowMs();
    const late = [...this.#sequences.values()].filter(
      ({ startedAtMs, timeoutMs }) => timeoutMs !== undefined && nowMs - startedAtMs >= timeoutMs,
    );
    for (const sequence of late) this.#remove(sequence);
    const overdue = this.#room.overdue(nowMs);
    for (const sequence of overdue) this.#remove(sequence);
    return [
      ...late.map((sequence) => ({ id: sequence.id, error: deadlinePassed(sequence) })),
      ...overdue.map((sequence) => this.#room.turnedAway(sequence, nowMs)),
    ];
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

  /** What calls took: by that is known how much there is time for in the next steps. */
  observe({ decode, prefill }: CallTimes): void {
    if (decode) this.#credit.observeDecode(decode);
    if (!prefill) return;
    this.#credit.observePrompts(prefill);
    this.#pace.observe(prefill);
  }

  /** The next step. Empty when nobody can run, which with sequences present never lasts. */
  plan(): StepPlan {
    return this.#planner.plan();
  }

  /** The weights could not be copied into the slot: all that wait for them fail, the others run. */
  loadFailed(plan: StepPlan, slot: number, error: unknown): SequenceEvent[] {
    const victims = this.#running.all().filter((sequence) => sequence.slot === slot);
    for (const sequence of victims) this.#remove(sequence);
    this.#slots.vacate(slot);
    withdraw(plan, new Set(victims.map(({ id }) => id)));
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
    const waiting = [...this.#queue.waiting()];
    return {
      running: this.#running.size,
      waiting: waiting.length,
      waitingForSlot: waiting.filter(({ slotMissedAtMs }) => slotMissedAtMs !== undefined).length,
      blocksUsed: this.#blocks.used,
      blocksTotal: this.#blocks.total,
      prefixTokensQueried: this.#prefixes.tokensQueried,
      prefixTokensHit: this.#prefixes.tokensHit,
      speculation: { ...this.#speculation.stats },
      preemptions: this.#running.preemptions,
      slots: this.#slots.residents(),
      runningByAdapter: countByAdapter(this.#running.all()),
      waitingByAdapter: countByAdapter(waiting),
    };
  }

  /** Blocks, slots, queues and counters agree. Walks everything: for tests. */
  check(): void {
    this.#blocks.check();
    const running = this.#running.all();
    this.#slots.check((slot) => running.filter((other) => other.slot === slot).length);
  }

  /** Takes over what a row computed and the tokens that were chosen in it, up to the one that ends the sequence. */
  #take(
    sequence: Sequence,
    { row, chosen, scores = [], forks = [], embedding }: Extract<RowOutcome, { type: "computed" }>,
  ): SequenceEvent[] {
    sequence.scored.push(...scores);
    const choices = row.samples - scores.length;
    const events: SequenceEvent[] = [];
    for (const one of chosen) {
      const event = this.#say(sequence, one);
      events.push(event);
      if (event.finish !== undefined) break;
    }
    // What was computed of guesses that did not hold lies behind that, and is written over.
    sequence.computed = row.position + row.tokens.length - choices + events.length;
    if (row.isSingle) sequence.sharedMax = Math.min(sequence.sharedMax, row.position);
    this.#prefixes.publish(sequence);
    if (embedding) {
      const { id, cachedTokens = 0 } = sequence;
      const queuedMs = this.#queuedMs(sequence);
      events.push({ id, embedding, cachedTokens, queuedMs, finish: "stop" });
    }
    // Where it is not known yet what may be said, nothing is known of the guesses either.
    if (chosen.length > 0) this.#speculation.observe(sequence, choices - 1, chosen.length - 1);
    // Guesses that did not hold are work as well, done for this tenant.
    this.#queue.charge(sequence, choices - chosen.length);
    const others = forks.map((fork) => this.#fork(sequence, fork));
    if (events.at(-1)?.finish !== undefined) this.#end(sequence);
    return [...events, ...others];
  }

  /** A choice begins where its leader has computed their prompt. */
  #fork(leader: Sequence, fork: ForkOutcome): SequenceEvent {
    const sequence = this.#sequences.get(fork.id);
    invariant(sequence, "who is to fork in a step waits until its end");
    if (fork.type === "failed") {
      this.#remove(sequence);
      return { id: fork.id, error: fork.error };
    }
    this.#running.fork(leader, sequence);
    const event = this.#say(sequence, fork.chosen);
    if (event.finish !== undefined) this.#end(sequence);
    return event;
  }

  #say(sequence: Sequence, { token, logprobs }: Chosen): SequenceEvent {
    sequence.tokens.push(token);
    sequence.paid++;
    this.#queue.charge(sequence, 1);
    const generated = sequence.tokens.length - sequence.prompt.length;
    const finish = sequence.stopIds.includes(token)
      ? "stop"
      : generated >= sequence.maxTokens
        ? "length"
        : undefined;
    const event: SequenceEvent = { id: sequence.id, token };
    if (generated === 1) {
      event.cachedTokens = sequence.cachedTokens ?? 0;
      event.queuedMs = this.#queuedMs(sequence);
      if (sequence.promptLogprobs !== undefined) event.promptLogprobs = sequence.scored;
    }
    if (logprobs !== undefined) event.logprobs = logprobs;
    if (finish !== undefined) event.finish = finish;
    if (finish !== undefined && sequence.preemptions > 0) event.preemptions = sequence.preemptions;
    return event;
  }

  /** One that goes on from another's prompt never waited for a step of its own: it waited until now. */
  #queuedMs({ startedAtMs, ranAtMs = this.#nowMs() }: Sequence): number {
    return ranAtMs - startedAtMs;
  }

  #end(sequence: Sequence): void {
    this.#room.observeEnd(this.#nowMs());
    this.#remove(sequence);
  }

  #remove(sequence: Sequence): void {
    this.#sequences.delete(sequence.id);
    this.#families.remove(sequence);
    if (!this.#queue.remove(sequence)) this.#running.stop(sequence);
  }
}
