/** API keys: made, listed, rotated and revoked by an admin. */
import type { CreateKey, CreateOwnKey, RotateKey } from "../protocol/admin.ts";
import type { ApiKey } from "../protocol/catalog.ts";
import type { Transport } from "./transport.ts";

/** What is told of a key after it was made: never the key, and not its hash. */
export type KeyFacts = Omit<ApiKey, "hash" | "previous"> & {
  previousUntil?: string;
  /** To the minute. */
  lastUsedAt?: string;
  /** Beginning and end of its text, to tell keys apart; absent for one that an operator made up. */
  redacted?: string;
};

export class Keys {
  readonly #transport: Transport;
  /** Those of the person who is logged in. */
  readonly own: OwnKeys;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.own = new OwnKeys(transport);
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

  /** A new text for the same key; the old one goes on for a day, or as long as is said. */
  rotate(id: string, body: RotateKey = {}): Promise<KeyFacts & { key: string }> {
    const path = `/api/keys/${encodeURIComponent(id)}/rotate`;
    return this.#transport.call(path, { method: "POST", key: "admin", json: body });
  }

  async revoke(id: string): Promise<void> {
    const path = `/api/keys/${encodeURIComponent(id)}`;
    await this.#transport.send(path, { method: "DELETE", key: "admin" });
  }
}

/** The same for keys of one's own, with a session's token in place of an admin's key. */
export class OwnKeys {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** In a project that one is a member of. `key` is the only time that the key's text is told. */
  create(body: CreateOwnKey): Promise<KeyFacts & { key: string }> {
    return this.#transport.call("/api/me/keys", { method: "POST", key: "admin", json: body });
  }

  list(): Promise<KeyFacts[]> {
    return this.#transport.listAll("/api/me/keys", { key: "admin" });
  }

  rotate(id: string, body: RotateKey = {}): Promise<KeyFacts & { key: string }> {
    const path = `/api/me/keys/${encodeURIComponent(id)}/rotate`;
    return this.#transport.call(path, { method: "POST", key: "admin", json: body });
  }

  async revoke(id: string): Promise<void> {
    const path = `/api/me/keys/${encodeURIComponent(id)}`;
    await this.#transport.send(path, { method: "DELETE", key: "admin" });
  }
}
