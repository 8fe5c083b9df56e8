/** From an `Authorization` header to who is asking, by the hash of the key and the snapshot alone. */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { ApiKey } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Principal } from "../metering/types.ts";
import type { SnapshotIndex } from "../snapshot/snapshot-index.ts";

export type Caller = ({ type: "project" } & Principal) | { type: "admin"; key: ApiKey };

export type IdentityOptions = {
  /** @throws HubError when the gateway has no snapshot yet */
  snapshot: () => SnapshotIndex;
  now: () => number;
  /** Keys whose hash is remembered. */
  cacheMax: number;
};

export class Identity {
  readonly #snapshot: () => SnapshotIndex;
  readonly #now: () => number;
  /** Key → hash, of keys that exist: guesses cannot push them out. What a hash may do is asked each time. */
  readonly #hashes: LRUCache<string, string>;

  constructor(options: IdentityOptions) {
    this.#snapshot = options.snapshot;
    this.#now = options.now;
    this.#hashes = new LRUCache({ max: options.cacheMax });
  }

  /**
   * @param authorization the header, `Bearer sk-sy-…`
   * @throws HubError `missing_api_key`, `invalid_api_key`, `permission_denied`
   */
  identify(authorization: string | null | undefined): Caller {
    const presented = readBearer(authorization);
    const snapshot = this.#snapshot();
    const key = this.#lookUp(presented, snapshot);
    if (key === undefined || key.revokedAt !== undefined) throw incorrectKey(presented);
    if (key.expiresAt !== undefined && Date.parse(key.expiresAt) <= this.#now()) {
      throw new HubError(
        "invalid_api_key",
        `The API key ${maskKey(presented)} expired at ${key.expiresAt}. Ask an administrator for a new one.`,
      );
    }
    if (key.role === "admin") return { type: "admin", key };
    const project = key.projectId === undefined ? undefined : snapshot.project(key.projectId);
    if (project === undefined) throw incorrectKey(presented);
    if (project.archived) {
      throw new HubError(
        "permission_denied",
        `The project '${project.name}' of this API key is archived.`,
      );
    }
    return { type: "project", key, project };
  }

  /** As `identify`, for what only a project may do: run a model, and be billed for it. */
  identifyProject(authorization: string | null | undefined): Principal {
    const caller = this.identify(authorization);
    if (caller.type === "project") return caller;
    throw new HubError(
      "permission_denied",
      "An admin key manages Switchyard and cannot run models. Create a key for a project (POST /api/keys) and use that.",
    );
  }

  #lookUp(presented: string, snapshot: SnapshotIndex): ApiKey | undefined {
    const known = this.#hashes.get(presented);
    if (known !== undefined) return snapshot.keyByHash(known);
    const digest = hash("sha256", presented);
    const key = snapshot.keyByHash(digest);
    if (key !== undefined) this.#hashes.set(presented, digest);
    return key;
  }
}

/** `sk-sy***wxyz`: enough to find the key, too little to use it; a short one shows nothing. */
export function maskKey(key: string): string {
  const printable = key.replace(/[^\x21-\x7e]/g, "?");
  return printable.length < 16 ? "***" : `${printable.slice(0, 5)}***${printable.slice(-4)}`;
}

function readBearer(authorization: string | null | undefined): string {
  const presented = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
  if (presented !== undefined) return presented;
  throw new HubError(
    "missing_api_key",
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
  );
}

function incorrectKey(presented: string): HubError {
  return new HubError(
    "invalid_api_key",
    `Incorrect API key provided: ${maskKey(presented)}. An administrator of this Switchyard can create one.`,
  );
}
