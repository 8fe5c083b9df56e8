/** API keys: made, listed and revoked by an admin. */
import type { CreateKey } from "../protocol/admin.ts";
import type { ApiKey } from "../protocol/catalog.ts";
import type { Transport } from "./transport.ts";

/** What is told of a key after it was made: never the key, and not its hash. */
export type KeyFacts = Omit<ApiKey, "hash">;

export class Keys {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** `key` is the only time that the key's text is told. */
  create(body: CreateKey): Promise<KeyFacts & { key: string }> {
    return this.#transport.call("/api/keys", { method: "POST", key: "admin", json: body });
  }

  list(filter: { projectId?: string | undefined } = {}): Promise<KeyFacts[]> {
    return this.#transport.listAll("/api/keys", {
      key: "admin",
      query: filter,
    });
  }

  async revoke(id: string): Promise<void> {
    const path = `/api/keys/${encodeURIComponent(id)}`;
    await this.#transport.send(path, { method: "DELETE", key: "admin" });
  }
}
