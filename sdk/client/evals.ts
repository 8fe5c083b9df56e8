/** Eval runs: every candidate answers every row of a dataset, and is measured. */
import { setTimeout as sleep } from "node:timers/promises";
import type { CreateRun, EvalRun } from "../protocol/admin.ts";
import type { EvalAnswer } from "../protocol/evals.ts";
import type { Transport } from "./transport.ts";

export class Evals {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Begins a run; its requests are billed to the key's project. */
  create(body: Omit<CreateRun, "dataset"> & { dataset: string }): Promise<EvalRun> {
    return this.#transport.call("/api/evals/runs", { method: "POST", key: "project", json: body });
  }

  get(id: string): Promise<EvalRun> {
    return this.#transport.call(runPath(id), { key: "project" });
  }

  /** Newest first. */
  list(): Promise<EvalRun[]> {
    return this.#transport.listAll("/api/evals/runs", { key: "project" });
  }

  cancel(id: string): Promise<EvalRun> {
    return this.#transport.call(`${runPath(id)}/cancel`, { method: "POST", key: "project" });
  }

  /** Asks what is missing or errored in a run that ended early. */
  resume(id: string): Promise<EvalRun> {
    return this.#transport.call(`${runPath(id)}/resume`, { method: "POST", key: "project" });
  }

  /** Row by row, with each answer; `failed` keeps what was wrong or errored. */
  results(
    id: string,
    filter: { candidate?: string | undefined; failed?: boolean | undefined } = {},
  ): AsyncGenerator<EvalAnswer> {
    return this.#transport.list<EvalAnswer>(`${runPath(id)}/results`, {
      key: "project",
      query: { limit: 1000, ...filter },
    });
  }

  /** Waits until a run has ended, whether done or failed. */
  async wait(
    id: string,
    options: {
      onProgress?: ((run: EvalRun) => void) | undefined;
      everyMs?: number | undefined;
      signal?: AbortSignal | undefined;
    } = {},
  ): Promise<EvalRun> {
    const { onProgress, everyMs = 500, signal } = options;
    for (;;) {
      const run = await this.#transport.call<EvalRun>(runPath(id), { key: "project", signal });
      onProgress?.(run);
      if (run.status !== "running") return run;
      await sleep(everyMs, undefined, signal ? { signal } : {});
    }
  }
}

function runPath(id: string): string {
  return `/api/evals/runs/${encodeURIComponent(id)}`;
}
