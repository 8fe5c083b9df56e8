/** Answers "what if": the engine's own scheduler under a made-up load, on a clock of its own. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import { EngineCore } from "../engine/engine-core.ts";
import type { SequenceOutput } from "../engine/messages.ts";
import { simulatedAdapter } from "../engine/simulated-runner.ts";
import { type Clock, ClockRunner } from "./clock-runner.ts";
import { type SimulationOptions, simulationOptions } from "./options.ts";
import { type RequestRecord, type SimulationReport, summarize } from "./report.ts";
import { promptOf, type SimulatedRequest, Workload } from "./workload.ts";

/**
 * Everything but tensors is what a server runs: queue, fairness, slots, blocks, prefix cache, preemption. The same
 * options give the same report.
 * @param onProgress the share that is done, 0 to 1
 * @throws HubError that names the option
 */
export async function simulate(
  given: unknown,
  onProgress: (done: number) => void = () => {},
): Promise<SimulationReport> {
  const options = parseOrThrow(simulationOptions, given);
  const simulation = new Simulation(options);
  const endMs = options.seconds * 1000;
  for (let steps = 0; await simulation.step(); steps++) {
    if (steps % stepsBetweenBreaths !== 0) continue;
    onProgress(Math.min(1, simulation.nowMs / endMs));
    await nextTurn();
  }
  return simulation.report();
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #clock: Clock = { ms: 0 };
  readonly #runner: ClockRunner;
  readonly #core: EngineCore;
  readonly #records = new Map<number, RequestRecord & { request: SimulatedRequest }>();
  readonly #timeline: { atMs: number; waiting: number; running: number; blocksUsed: number }[] = [];
  readonly #known = new Set<number>();
  readonly #workload: Workload;
  /** By request: choices that have not ended. */
  readonly #open = new Map<SimulatedRequest, number>();
  #nextId = 1;

  constructor(options: SimulationOptions) {
    this.#options = options;
    const { engine } = options;
    this.#workload = new Workload(options);
    this.#runner = new ClockRunner(this.#clock, options, ({ sequenceId, forks = [] }) => {
      for (const id of [sequenceId, ...forks]) this.#record(id).startedAtMs ??= this.#clock.ms;
    });
    this.#core = new EngineCore({
      runner: this.#runner,
      limits: { ...engine, speculationTokensMax: 0 },
      prefixCache: engine.prefixCache,
      nowMs: () => this.#clock.ms,
      emit: (outputs) => {
        for (const output of outputs) this.#hear(output);
      },
    });
  }

  get nowMs(): number {
    return this.#clock.ms;
  }

  /** Lets come who has come by now, and computes one step. False when all is done. */
  async step(): Promise<boolean> {
    for (;;) {
      const request = this.#workload.take(this.#clock.ms);
      if (!request) break;
      this.#add(request);
    }
    if (!this.#core.hasWork) {
      const nextAtMs = this.#workload.nextAtMs;
      if (nextAtMs === undefined) return false;
      this.#clock.ms = nextAtMs;
      return true;
    }
    const beforeMs = this.#clock.ms;
    await this.#core.turn();
    // Nobody could run, as when all wait for a slot that is kept for one of them.
    if (this.#clock.ms === beforeMs) this.#clock.ms += idleMs;
    const { waiting, running, blocksUsed } = this.#core.stats();
    this.#timeline.push({ atMs: this.#clock.ms, waiting, running, blocksUsed });
    return true;
  }

  report(): SimulationReport {
    return summarize({
      options: this.#options,
      records: [...this.#records.values()],
      timeline: this.#timeline,
      totals: { ...this.#runner.totals, endMs: this.#clock.ms },
      stats: this.#core.stats(),
    });
  }

  #add(request: SimulatedRequest): void {
    const { atMs, source, adapter, outputTokens } = request;
    const { tenant } = source;
    const prompt = promptOf(request, this.#nextId);
    const digest = adapter === undefined ? undefined : `adapter-${adapter}`;
    if (adapter !== undefined && digest !== undefined && !this.#known.has(adapter)) {
      this.#known.add(adapter);
      this.#core.receive({ type: "adapter", adapter: simulatedAdapter(digest) });
    }
    const { choices } = this.#options;
    const family = choices > 1 ? this.#nextId : undefined;
    this.#open.set(request, choices);
    for (let stream = 0; stream < choices; stream++) {
      const id = this.#nextId++;
      const promptTokens = prompt.length;
      this.#records.set(id, {
        request,
        tenant,
        adapter,
        arrivedAtMs: atMs,
        promptTokens,
        gapsMs: [],
      });
      const sampling = { ...greedy, stream };
      const rest = { sampling, stopIds: [], tenant, family, adapter: digest };
      this.#core.receive({
        type: "add",
        request: { id, prompt, maxTokens: outputTokens, ...rest },
      });
    }
  }

  #hear({ id, token, finish, error }: SequenceOutput): void {
    const record = this.#record(id);
    const nowMs = this.#clock.ms;
    if (token !== undefined) {
      if (record.lastTokenAtMs === undefined) record.firstTokenAtMs = nowMs;
      else record.gapsMs.push(nowMs - record.lastTokenAtMs);
      record.lastTokenAtMs = nowMs;
    }
    if (error !== undefined) record.refused = error.code;
    if (finish !== undefined || error !== undefined) {
      this.#end(record.request, nowMs + (error?.retryAfterMs ?? 0));
    }
  }

  /** One choice of the request ended; with the last of them the client may ask again. */
  #end(request: SimulatedRequest, atMs: number): void {
    const open = (this.#open.get(request) ?? 0) - 1;
    if (open > 0) {
      this.#open.set(request, open);
      return;
    }
    this.#open.delete(request);
    this.#workload.answered(request, atMs);
  }

  #record(id: number): RequestRecord & { request: SimulatedRequest } {
    return this.#records.get(id)!;
  }
}

const greedy = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0 };
const stepsBetweenBreaths = 200;
const idleMs = 1;
