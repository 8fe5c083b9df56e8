/** The engine's loop body: messages in, one step, outputs out. It runs in a worker, and in tests without one. */
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import { BlockManager } from "./block-manager.ts";
import { type CallRecord, recorded } from "./call-record.ts";
import type { GrammarMasks } from "./grammar-masks.ts";
import { KnownAdapters } from "./known-adapters.ts";
import type { CoreStats, SequenceOutput, ToWorker, WireError } from "./messages.ts";
import { toWireError } from "./messages.ts";
import { Pooler } from "./pooling.ts";
import type { SchedulerLimits } from "./scheduler.ts";
import { Scheduler } from "./scheduler.ts";
import type { SequenceEvent, SequenceRequest } from "./sequence.ts";
import { SlotTable } from "./slot-table.ts";
import { callsOf, computeStep } from "./step.ts";
import type { RowOutcome } from "./step-outcome.ts";
import { type StepPlan, tokensOf } from "./step-plan.ts";
import { TokenChooser } from "./token-chooser.ts";
import type { ModelRunner, PackedAdapter } from "./types.ts";

export type EngineCoreParts = {
  runner: ModelRunner;
  /** Where the sequences of each call are written down, for whoever looks after a death. */
  callRecord?: CallRecord;
  limits: SchedulerLimits;
  /** Whether sequences use the blocks of others that began alike. */
  prefixCache: boolean;
  /** Absent where no output follows a grammar. */
  masks?: GrammarMasks | undefined;
  /** Called when something came up that is not a message. */
  onWork?: () => void;
  nowMs: () => number;
  /** Hears what came of each step that anything came of. */
  emit: (outputs: SequenceOutput[]) => void;
  /** Hears that an adapter can be used from now on, or what keeps it from that. */
  onKnown?: (digest: string, error: WireError | undefined) => void;
  /** Hears when nothing reads an adapter's weights any more that were to be forgotten. */
  onForgotten?: (digest: string) => void;
};

export class EngineCore {
  readonly #runner: ModelRunner;
  readonly #calls: Pick<ModelRunner, "run" | "statesOf">;
  readonly #emit: EngineCoreParts["emit"];
  readonly #onKnown: (digest: string, error: WireError | undefined) => void;
  readonly #onForgotten: (digest: string) => void;
  readonly #scheduler: Scheduler;
  readonly #chooser: TokenChooser;
  readonly #pooler: Pooler;
  /** Messages that wait for the step under way to end. */
  #inbox: Exclude<ToWorker, { type: "close" }>[] = [];
  readonly #slots: SlotTable;
  /** Of the steps since somebody asked. */
  readonly #stepTokens: number[] = [];
  readonly #adapters: KnownAdapters;
  /** Adapters to forget once no sequence needs them. */
  readonly #leaving = new Set<string>();
  /** Sequences whose first token is still to come. */
  readonly #silent = new Set<number>();
  readonly #masks: GrammarMasks | undefined;
  /** Sequences whose grammar is compiled before they are admitted. */
  readonly #compiling = new Set<number>();
  /** Those of them whose outcome is known. */
  #compiled: { request: SequenceRequest; error?: unknown }[] = [];
  readonly #onWork: () => void;

  constructor(parts: EngineCoreParts) {
    const { runner, callRecord, limits, prefixCache, masks, nowMs, emit } = parts;
    const { onWork = () => {} } = parts;
    this.#runner = runner;
    this.#calls = callRecord ? recorded(runner, callRecord) : runner;
    this.#emit = emit;
    this.#onKnown = parts.onKnown ?? (() => {});
    this.#onForgotten = parts.onForgotten ?? (() => {});
    this.#chooser = new TokenChooser(runner, (id) => this.#scheduler.sequence(id), masks);
    this.#masks = masks;
    this.#onWork = onWork;
    this.#pooler = new Pooler(runner.dims.hiddenSize, (id) => this.#scheduler.sequence(id));
    this.#adapters = new KnownAdapters({
      runner,
      heldMax: limits.waitingMax,
      onSettled: () => onWork(),
    });
    this.#slots = new SlotTable(runner.slots, (digest) => this.#adapters.bytesOf(digest));
    this.#scheduler = new Scheduler({
      limits,
      prefixCache,
      singleWeights: runner.hasSingleWeights ?? false,
      nowMs,
      blocks: new BlockManager(runner),
      slots: this.#slots,
    });
  }

  /** Taken up before the next step. */
  receive(message: Exclude<ToWorker, { type: "close" }>): void {
    this.#inbox.push(message);
  }

  get hasWork(): boolean {
    const isTold = this.#inbox.length + this.#compiled.length > 0 || this.#adapters.hasSettled;
    return isTold || !this.#scheduler.isIdle;
  }

  /** Takes up all messages, computes one step if somebody can run, and emits what came of it. */
  async turn(): Promise<void> {
    const outputs: SequenceOutput[] = [];
    for (const message of this.#takeInbox()) this.#handle(message, outputs);
    this.#takeSettled(outputs);
    for (const { request, error } of this.#compiled.splice(0)) {
      if (!this.#compiling.delete(request.id)) continue;
      if (error === undefined) this.#admit(request, outputs);
      else outputs.push({ id: request.id, error: toWireError(error) });
    }
    for (const event of this.#scheduler.expire()) outputs.push(this.#output(event, undefined));
    const plan = this.#scheduler.plan();
    this.#load(plan, outputs);
    for (const { from, to } of plan.copies) this.#runner.copyBlock(from, to);
    this.#masks?.suppose(
      plan.decode.flatMap(({ sequenceId, tokens: [, ...guesses] }) =>
        guesses.length > 0 ? [[sequenceId, guesses] as const] : [],
      ),
    );
    const planned = tokensOf(plan);
    if (planned > 0) this.#stepTokens.push(planned);
    const outcomes: RowOutcome[] = [];
    for (const rows of callsOf(plan, (row) => this.#scheduler.runsApart(row.sequenceId))) {
      if (rows.decode.length + rows.prefill.length === 0) continue;
      outcomes.push(...(await computeStep(this.#calls, rows, this.#chooser, this.#pooler)));
      if (this.#runner.lastCalls) this.#scheduler.observe(this.#runner.lastCalls);
    }
    const adapters = new Map(
      outcomes.flatMap(({ row: { sequenceId, forks = [] } }) => {
        const digest = this.#scheduler.adapterInUse(sequenceId);
        return [sequenceId, ...forks].map((id) => [id, digest] as const);
      }),
    );
    const events = this.#scheduler.commit(outcomes);
    this.#advanceMasks(events);
    for (const event of events) outputs.push(this.#output(event, adapters.get(event.id)));
    this.#dropLeaving();
    if (outputs.length > 0) this.#emit(outputs);
  }

  /** How it stands, and what has happened since this was asked last. */
  stats(): CoreStats {
    return {
      ...this.#scheduler.stats(),
      stepTokens: this.#stepTokens.splice(0),
      slotEvents: [
        ...this.#slots.takeEvicted().map((digest) => ({ type: "evicted" as const, digest })),
        ...(this.#runner.takeSlotLoads?.() ?? []).map((load) => ({
          type: "loaded" as const,
          ...load,
        })),
      ],
    };
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
        this.#begin(message.request, outputs);
        return;
      case "cancel":
        this.#scheduler.cancel(message.id);
        this.#adapters.cancel(message.id);
        this.#silent.delete(message.id);
        this.#compiling.delete(message.id);
        return;
      case "adapter":
        this.#know(message.adapter);
        return;
      case "forget":
        this.#leaving.add(message.digest);
        return;
      case "pin":
        this.#slots.pin(message.digest, message.pinned);
        return;
      default:
        message satisfies never;
    }
  }

  #know(adapter: PackedAdapter): void {
    const { digest } = adapter;
    if (this.#leaving.delete(digest)) {
      // The same numbers at another place: whoever gave the old place away must not find us reading there.
      const slot = this.#slots.slotOf(digest);
      if (slot !== undefined) this.#runner.loadSlot(slot, adapter);
      this.#onForgotten(digest);
    }
    this.#adapters.add(adapter);
  }

  /** Those whose adapter can be used go on, or fail of it. */
  #takeSettled(outputs: SequenceOutput[]): void {
    for (const { digest, held, error } of this.#adapters.takeSettled()) {
      this.#onKnown(digest, error === undefined ? undefined : toWireError(error));
      for (const request of held) {
        if (error === undefined) this.#begin(request, outputs);
        else outputs.push({ id: request.id, error: toWireError(error) });
      }
    }
  }

  #begin(request: SequenceRequest, outputs: SequenceOutput[]): void {
    try {
      if (this.#adapters.hold(request)) return;
    } catch (error) {
      outputs.push({ id: request.id, error: toWireError(error) });
      return;
    }
    if (request.grammar) this.#compile(request, outputs);
    else this.#admit(request, outputs);
  }

  #admit(request: SequenceRequest, outputs: SequenceOutput[]): void {
    try {
      const turnedAway = this.#scheduler.add(request);
      for (const event of turnedAway) outputs.push(this.#output(event, undefined));
      this.#silent.add(request.id);
    } catch (error) {
      outputs.push({ id: request.id, error: toWireError(error) });
    }
  }

  /** A sequence with a grammar is admitted once the grammar is compiled, which holds up nobody else. */
  #compile(request: SequenceRequest, outputs: SequenceOutput[]): void {
    const { id, grammar, tenant } = request;
    invariant(grammar, "only what has a grammar is compiled");
    try {
      if (!this.#masks) throw new HubError("unsupported_parameter", "This engine has no grammars.");
      this.#compiling.add(id);
      this.#masks.open(id, { grammar, tenant }, (error) => {
        this.#compiled.push({ request, error });
        this.#onWork();
      });
    } catch (error) {
      this.#compiling.delete(id);
      outputs.push({ id, error: toWireError(error) });
    }
  }

  /** Before anything else is done, so that the masks are found while the next step is computed. */
  #advanceMasks(events: readonly SequenceEvent[]): void {
    if (!this.#masks) return;
    this.#masks.advance(
      events.flatMap(({ id, token, finish }) =>
        token === undefined || finish !== undefined ? [] : [[id, token] as const],
      ),
    );
    for (const id of this.#masks.ids) {
      if (!this.#scheduler.sequence(id) && !this.#compiling.has(id)) this.#masks.close(id);
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
        // Whose slot it was has left it all the same.
        this.#runner.clearSlot(slot);
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
    if (event.queuedMs !== undefined) output.queuedMs = event.queuedMs;
    if (event.preemptions !== undefined) output.preemptions = event.preemptions;
    if (event.logprobs !== undefined) output.logprobs = event.logprobs;
    if (event.promptLogprobs !== undefined) output.promptLogprobs = event.promptLogprobs;
    if (event.embedding !== undefined) output.embedding = event.embedding;
    if (event.finish !== undefined) output.finish = event.finish;
    if (event.error !== undefined) output.error = toWireError(event.error);
    if (this.#silent.delete(event.id) && adapter !== undefined) output.adapter = adapter;
    return output;
  }

  #dropLeaving(): void {
    for (const digest of this.#leaving) {
      if (this.#scheduler.needs(digest) || this.#adapters.needs(digest)) continue;
      this.#leaving.delete(digest);
      this.#adapters.delete(digest);
      const slot = this.#scheduler.unload(digest);
      if (slot !== undefined) this.#runner.clearSlot(slot);
      this.#onForgotten(digest);
    }
  }
}
