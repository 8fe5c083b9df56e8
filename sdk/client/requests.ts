/** The record of single requests: what was asked of whom, what it cost, and why it went there. */
import { SseParser } from "../protocol/sse.ts";
import type { Transport } from "./transport.ts";

/** One settled request; the fields that every server tells. */
export type RequestRecord = { id: string } & Record<string, unknown>;

/** `answer` is null where none came, or none is kept. */
export type RequestContent = {
  id: string;
  at: string;
  expires_at: string;
  truncated: boolean;
  complete: boolean;
  redacted: Record<string, number>;
  prompt: unknown;
  answer: unknown;
} & Record<string, unknown>;

/** What a log is searched and followed by; a status is `429`, or all of a kind as `5xx`. */
export type RequestFilters = Partial<
  Record<
    | "project"
    | "key"
    | "model"
    | "adapter"
    | "task"
    | "user"
    | "route"
    | "upstream"
    | "outcome"
    | "error"
    | "status"
    | "pricing",
    string | undefined
  >
>;

export type RequestQuery = RequestFilters & {
  limit?: number | undefined;
  after?: string | undefined;
  /** Dates or timestamps. */
  from?: string | undefined;
  to?: string | undefined;
};

/** `lost`: so many were settled that this reader was too slow for. */
export type RequestEvent =
  | { type: "request"; request: RequestRecord }
  | { type: "lost"; count: number };

export class Requests {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first; `limit` is the most of a page, `after` the last id of the page before. */
  async list(query: RequestQuery = {}): Promise<RequestRecord[]> {
    const answer = await this.#transport.call<{ data: RequestRecord[] }>("/api/requests", {
      key: "admin",
      query,
    });
    return answer.data;
  }

  /** Each request as it is settled, until the server or the signal ends it. */
  async *follow(
    filters: RequestFilters = {},
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<RequestEvent> {
    const response = await this.#transport.send("/api/requests/stream", {
      key: "admin",
      query: filters,
      signal,
    });
    const parser = new SseParser();
    for await (const chunk of response.body ?? []) {
      for (const { event, data } of parser.push(chunk)) {
        const told = JSON.parse(data);
        if (event === "request") yield { type: "request", request: told };
        else if (event === "lost") yield { type: "lost", count: told.count };
      }
    }
  }

  /** What was said in it, where that is kept; the audit log has who asked. */
  content(id: string): Promise<RequestContent> {
    const path = `/api/requests/${encodeURIComponent(id)}/content`;
    return this.#transport.call(path, { key: "admin" });
  }

  async forgetContent(id: string): Promise<void> {
    const path = `/api/requests/${encodeURIComponent(id)}/content`;
    await this.#transport.call(path, { method: "DELETE", key: "admin" });
  }

  /** All that is kept of a project, or of one end user of it. @returns how many requests' */
  async forgetContents(query: { project: string; user?: string | undefined }): Promise<number> {
    const { deleted } = await this.#transport.call<{ deleted: number }>("/api/contents", {
      method: "DELETE",
      key: "admin",
      query,
    });
    return deleted;
  }

  get(id: string): Promise<RequestRecord> {
    const path = `/api/requests/${encodeURIComponent(id)}`;
    return this.#transport.call(path, { key: "admin" });
  }
}
