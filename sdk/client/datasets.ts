/** Datasets: rows to measure candidates on, pinned by the SHA-256 of their bytes. */
import { readFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type { Dataset } from "../protocol/evals.ts";
import { SwitchyardError } from "./error.ts";
import type { Transport } from "./transport.ts";

export class Datasets {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Uploads a JSONL file. The same bytes again are the same dataset.
   * @param options  `name` defaults to the file's with its folder; an admin's key has to say `projectId`
   * @throws SwitchyardError `invalid_file`, and `invalid_dataset`, which names the line
   */
  async push(
    file: string,
    options: { name?: string | undefined; projectId?: string | undefined } = {},
  ): Promise<Dataset> {
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = new Uint8Array(await readFile(file));
    } catch (cause) {
      throw new SwitchyardError(`${file} cannot be read. A dataset is a file of JSON lines.`, {
        code: "invalid_file",
        cause,
      });
    }
    return this.#transport.call("/api/datasets", {
      method: "POST",
      key: "project",
      query: { name: options.name ?? nameOf(file), projectId: options.projectId },
      body: bytes,
      contentType: "application/x-ndjson",
    });
  }

  list(): Promise<Dataset[]> {
    return this.#transport.listAll("/api/datasets", {
      key: "project",
    });
  }

  get(digest: string): Promise<Dataset> {
    return this.#transport.call(`/api/datasets/${encodeURIComponent(digest)}`, { key: "project" });
  }
}

/** Files of datasets are often all called `test.jsonl`, and their folders tell them apart. */
function nameOf(file: string): string {
  const path = resolve(file);
  return `${basename(dirname(path))}/${basename(path)}`.slice(-128);
}
