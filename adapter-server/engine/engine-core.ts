/** The engine's loop body: messages in, one step, outputs out. It runs in a worker, and in tests without one. */
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { BlockManager } from "./block-manager.ts";
import { type CallRecord, recorded } from "./call-record.ts";
import type { SequenceOutput, ToWorker } from "./messages.ts";
import { toWireError } from "./messages.ts";
import { Pooler } from "./pooling.ts";
import type { RowOutcome, SchedulerLimits } from "./scheduler.ts";
import { Scheduler } from "./scheduler.ts";
import type { SchedulerStats } from "./scheduler-stats.ts";
import type { SequenceEvent } from "./sequence.ts";
import { SlotTable } from "./slot-table.ts";
import { callsOf, computeStep } from "./step.ts";
import type { StepPlan } from "./step-plan.ts";
import { TokenChooser } from "./token-chooser.ts";
import type { ModelRunner, PackedAdapter } from "./types.ts";

export type EngineCoreParts = {
  runner: ModelRunner;
  /** Where the sequences of each call are written down, for whoever looks after a death. */
  callRecord?: CallRecord;
  limits: SchedulerLimits;
  /** Whether sequences use the blocks of others that began alike. */
  prefixCache: boolean;
  nowMs: () => number;
  /** Hears what came of each step that anything came of. */
  emit: (outputs: SequenceOutput[]) => void;
};

export class EngineCore {
  readonly #runner: ModelRunner;
  readonly #calls: Pick<ModelRunner, "run" | "statesOf">;
  readonly #emit: EngineCoreParts["emit"];
  readonly #scheduler: Scheduler;
  readonly #chooser: TokenChooser;
  readonly #pooler: Pooler;
  /** Messages that wait for the step under way to end. */
  #inbox: Exclude<ToWorker, { type: "close" }>[] = [];
  readonly #adapters = new Map<string, PackedAdapter>();
  /** Adapters to forget once no sequence needs them. */
  readonly #leaving = new Set<string>();
  /** Sequences whose first token is still to come. */
  readonly #silent = new Set<number>();

  constructor(parts: EngineCoreParts) {
    const { runner, callRecord, limits, prefixCache, nowMs, emit } = parts;
    this.#runner = runner;
    this.#calls = callRecord ? recorded(runner, callRecord) : runner;
    this.#emit = emit;
    this.#chooser = new TokenChooser(runner, (id) => this.#scheduler.sequence(id));
    this.#pooler = new Pooler(runner.dims.hiddenSize, (id) => this.#scheduler.sequence(id));
    this.#scheduler = new Scheduler({
      limits,
      prefixCache,
      nowMs,
      blocks: new BlockManager(runner),
      slots: new SlotTable(runner.slots),
    });
  }

  /** Taken up before the next step. */
  receive(message: Exclude<ToWorker, { type: "close" }>): void {
    this.#inbox.push(message);
  }

  get hasWork(): boolean {
    return this.#inbox.length > 0 || !this.#scheduler.isIdle;
  }

  /** Takes up all messages, computes one step if somebody can run, and emits what came of it. */
  async turn(): Promise<void> {
    const outputs: SequenceOutput[] = [];
    for (const message of this.#takeInbox()) this.#handle(message, outputs);
    for (const event of this.#scheduler.expire()) outputs.push(this.#output(event, undefined));
    const plan = this.#scheduler.plan();
    this.#load(plan, outputs);
    const outcomes: RowOutcome[] = [];
    for (const rows of callsOf(plan, (row) => this.#scheduler.runsApart(row.sequenceId))) {
      outcomes.push(...(await computeStep(this.#calls, rows, this.#chooser, this.#pooler)));
    }
    const adapters = new Map(
      outcomes.map(({ row }) => [row.sequenceId, this.#scheduler.adapterInUse(row.sequenceId)]),
    );
    for (const event of this.#scheduler.commit(outcomes)) {
      outputs.push(this.#output(event, adapters.get(event.id)));
    }
    this.#dropLeaving();
    if (outputs.length > 0) this.#emit(outputs);
  }

  stats(): SchedulerStats {
    return this.#scheduler.stats();
  }

  /** Everything is accounted for: for tests. */
  check(): void {
    this.#scheduler.check();
  }

  #takeInbox(): Exclude<ToWorker, { type: "close" }>[] {
    const inbox = this.#inbox;
    this.#inbox = [];
    return inbox;
  }

  #handle(message: Exclude<ToWorker, { type: "close" }>, outputs: SequenceOutput[]): void {
    switch (message.type) {
      case "add":
        try {
          const turnedAway = this.#scheduler.add(message.request);
          for (const event of turnedAway) outputs.push(this.#output(event, undefined));
          this.#silent.add(message.request.id);
        } catch (error) {
          outputs.push({ id: message.request.id, error: toWireError(error) });
        }
        return;
      case "cancel":
        this.#scheduler.cancel(message.id);
        this.#silent.delete(message.id);
        return;
      case "adapter":
        this.#adapters.set(message.adapter.digest, message.adapter);
        this.#leaving.delete(message.adapter.digest);
        return;
      case "forget":
        this.#leaving.add(message.digest);
        return;
      default:
        message satisfies never;
    }
  }

  /** Copies adapters into their slots. What cannot be loaded fails its own sequences. */
  #load(plan: StepPlan, outputs: SequenceOutput[]): void {
    for (const { slot, digest } of plan.loads) {
      try {
        const adapter = this.#adapters.get(digest);
        if (!adapter) throw new HubError("model_not_found", "The adapter is not loaded.");
        invariant(adapter.digest === digest, "an adapter is kept under its own digest");
        this.#runner.loadSlot(slot, adapter);
      } catch (error) {
        for (const event of this.#scheduler.loadFailed(plan, slot, error)) {
          outputs.push(this.#output(event, undefined));
        }
      }
    }
  }

  #output(event: SequenceEvent, adapter: string | undefined): SequenceOutput {
    const output: SequenceOutput = { id: event.id };
    if (event.token !== undefined) output.token = event.token;
    if (event.cachedTokens !== undefined) output.cachedTokens = event.cachedTokens;
    if (event.logprobs !== undefined) output.logprobs = event.logprobs;
    if (event.embedding !== undefined) output.embedding = event.embedding;
    if (event.finish !== undefined) output.finish = event.finish;
    if (event.error !== undefined) output.error = toWireError(event.error);
    if (this.#silent.delete(event.id) && adapter !== undefined) output.adapter = adapter;
    return output;
  }

  #dropLeaving(): void {
    for (const digest of this.#leaving) {
      if (this.#scheduler.needs(digest)) continue;
      this.#leaving.delete(digest);
      this.#adapters.delete(digest);
      const slot = this.#scheduler.unload(digest);
      if (slot !== undefined) this.#runner.clearSlot(slot);
    }
  }
}
