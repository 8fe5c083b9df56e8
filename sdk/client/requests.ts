/** The record of single requests: what was asked of whom, what it cost, and why it went there. */
import type { Transport } from "./transport.ts";

/** One settled request; the fields that every server tells. */
export type RequestRecord = { id: string } & Record<string, unknown>;

export class Requests {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first; `limit` is the most of a page, `after` the last id of the page before. */
  async list(
    query: { limit?: number | undefined; after?: string | undefined } = {},
  ): Promise<RequestRecord[]> {
    const answer = await this.#transport.call<{ data: RequestRecord[] }>("/api/requests", {
      key: "admin",
      query,
    });
    return answer.data;
  }

  get(id: string): Promise<RequestRecord> {
    const path = `/api/requests/${encodeURIComponent(id)}`;
    return this.#transport.call(path, { key: "admin" });
  }
}
