/** Batches: many requests in one file, run by the server, whose answers are files again. */
import { setTimeout as sleep } from "node:timers/promises";
import type OpenAI from "openai";
import type { Files } from "./files.ts";
import type { Transport } from "./transport.ts";

/** As OpenAI tells of one; times are seconds since 1970. */
export type Batch = OpenAI.Batches.Batch;

export type CreateBatch = {
  inputFileId: string;
  /** Such as `/v1/chat/completions`, which every line of the file asks. */
  endpoint: string;
  /** Hours or days, such as `24h`. */
  completionWindow?: string | undefined;
  metadata?: Record<string, string> | undefined;
};

export class Batches {
  readonly #transport: Transport;
  readonly #files: Files;

  constructor(transport: Transport, files: Files) {
    this.#transport = transport;
    this.#files = files;
  }

  create({
    inputFileId,
    endpoint,
    completionWindow = "24h",
    metadata,
  }: CreateBatch): Promise<Batch> {
    return this.#transport.call("/v1/batches", {
      method: "POST",
      key: "project",
      json: {
        input_file_id: inputFileId,
        endpoint,
        completion_window: completionWindow,
        metadata,
      },
    });
  }

  /** Newest first. */
  list(): Promise<Batch[]> {
    return this.#transport.listAll("/v1/batches", { key: "project" });
  }

  get(id: string): Promise<Batch> {
    return this.#transport.call(batchPath(id), { key: "project" });
  }

  /** What is under way is finished, and nothing begun. */
  cancel(id: string): Promise<Batch> {
    return this.#transport.call(`${batchPath(id)}/cancel`, { method: "POST", key: "project" });
  }

  /** The bytes of its files of JSON lines, as they come: answers, then failures, each in the order of the requests. */
  async *results(
    { output_file_id, error_file_id }: Batch,
    { which = "all" }: { which?: "all" | "succeeded" | "failed" } = {},
  ): AsyncGenerator<Uint8Array> {
    const ids = [which !== "failed" && output_file_id, which !== "succeeded" && error_file_id];
    for (const id of ids) {
      if (!id) continue;
      for await (const chunk of await this.#files.content(id)) yield chunk;
    }
  }

  /** Waits until a batch is over, however it ended. */
  async wait(
    id: string,
    options: {
      onProgress?: ((batch: Batch) => void) | undefined;
      everyMs?: number | undefined;
      signal?: AbortSignal | undefined;
    } = {},
  ): Promise<Batch> {
    const { onProgress, everyMs = 1000, signal } = options;
    for (;;) {
      const batch = await this.#transport.call<Batch>(batchPath(id), { key: "project", signal });
      onProgress?.(batch);
      if (isOver(batch)) return batch;
      await sleep(everyMs, undefined, signal ? { signal } : {});
    }
  }
}

export function isOver({ status }: Pick<Batch, "status">): boolean {
  return ["completed", "failed", "expired", "cancelled"].includes(status);
}

function batchPath(id: string): string {
  return `/v1/batches/${encodeURIComponent(id)}`;
}
