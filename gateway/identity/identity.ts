/** From an `Authorization` header to who is asking, by the hash of the key and the snapshot alone. */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { ApiKey } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { KeyId } from "../../sdk/protocol/ids.ts";
import type { Principal } from "../metering/types.ts";
import type { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { refuseEndpoint, refuseOutside } from "./key-scopes.ts";

export type Caller = ({ type: "project" } & Principal) | { type: "admin"; key: ApiKey };

export type IdentityOptions = {
  /** @throws HubError when the gateway has no snapshot yet */
  snapshot: () => SnapshotIndex;
  now: () => number;
  /** Keys whose hash is remembered. */
  cacheMax: number;
  /** Told of each key that is let in. */
  onUse?: (id: KeyId) => void;
  /** SHA-256 in hex; a test counts how often it is asked for. */
  digest?: (key: string) => string;
};

export class Identity {
  readonly #snapshot: () => SnapshotIndex;
  readonly #now: () => number;
  /** Key → hash, of keys that exist: guesses cannot push them out. What a hash may do is asked each time. */
  readonly #hashes: LRUCache<string, string>;
  readonly #onUse: ((id: KeyId) => void) | undefined;
  readonly #digest: (key: string) => string;

  constructor(options: IdentityOptions) {
    this.#snapshot = options.snapshot;
    this.#now = options.now;
    this.#hashes = new LRUCache({ max: options.cacheMax });
    this.#onUse = options.onUse;
    this.#digest = options.digest ?? ((key) => hash("sha256", key));
  }

  /**
   * @param authorization the header, `Bearer sk-sy-…`
   * @throws HubError `missing_api_key`, `invalid_api_key`, `permission_denied`
   */
  identify(authorization: string | null | undefined): Caller {
    const presented = readBearer(authorization);
    const snapshot = this.#snapshot();
    const found = this.#lookUp(presented, snapshot);
    const caller = this.#callerOf(found?.key, maskKey(presented), snapshot);
    const { previous } = caller.key;
    if (previous?.hash === found?.hash) this.#refuseEnded(previous?.until, maskKey(presented));
    this.#onUse?.(caller.key.id);
    return caller;
  }

  /**
   * Whose key was presented when a batch was created, as that key stands now, for one of the batch's requests. From
   * where the batch was created was looked at then.
   * @throws HubError as `identify`, and `permission_denied` for a path that the key is not for
   */
  identifyKey(id: KeyId, path: string): Principal {
    const snapshot = this.#snapshot();
    const caller = this.#callerOf(snapshot.keyById(id), id, snapshot);
    if (caller.type === "admin") throw incorrectKey(id);
    refuseEndpoint(caller.key, { method: "POST", path });
    this.#onUse?.(caller.key.id);
    return caller;
  }

  #refuseEnded(end: string | undefined, shown: string): void {
    if (end === undefined || Date.parse(end) > this.#now()) return;
    throw new HubError(
      "invalid_api_key",
      `The API key ${shown} expired at ${end}. Ask an administrator for a new one.`,
    );
  }

  /** @param shown what may be told of the key */
  #callerOf(key: ApiKey | undefined, shown: string, snapshot: SnapshotIndex): Caller {
    if (key === undefined || isEnded(key)) throw incorrectKey(shown);
    this.#refuseEnded(key.expiresAt, shown);
    if (key.role === "admin") return { type: "admin", key };
    const project = key.projectId === undefined ? undefined : snapshot.project(key.projectId);
    if (project === undefined) throw incorrectKey(shown);
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

  /** As `identify`, for what only administrators may do here. */
  identifyAdmin(authorization: string | null | undefined): ApiKey {
    const caller = this.identify(authorization);
    if (caller.type === "admin") return caller.key;
    throw new HubError("permission_denied", "Only an admin key may do this.");
  }

  /**
   * A key that is for certain addresses is of no use at others. Whether it is a key at all is asked later, by
   * whoever needs one.
   * @throws HubError `permission_denied`
   */
  refuseOutside(
    authorization: string | null,
    from: { method: string; path: string; address: string | undefined },
  ): void {
    const presented = bearerOf(authorization);
    if (presented === undefined) return;
    const found = this.#lookUp(presented, this.#snapshot());
    if (found?.key.scopes) refuseOutside(found.key, from);
  }

  /**
   * Whatever is wrong with a key, finding that out is one hash and one look-up in memory: its prefix and its checksum are
   * looked at nowhere, and nobody else is asked.
   */
  #lookUp(presented: string, snapshot: SnapshotIndex): { key: ApiKey; hash: string } | undefined {
    const known = this.#hashes.get(presented);
    const digest = known ?? this.#digest(presented);
    const key = snapshot.keyByHash(digest);
    if (key === undefined) return undefined;
    // One that has ended is refused in the same time as one that never was.
    if (isEnded(key)) this.#hashes.delete(presented);
    else if (known === undefined) this.#hashes.set(presented, digest);
    return { key, hash: digest };
  }
}

function isEnded({ revokedAt, suspendedAt }: ApiKey): boolean {
  return revokedAt !== undefined || suspendedAt !== undefined;
}

/** `sk-sy***wxyz`: enough to find the key, too little to use it; a short one shows nothing. */
export function maskKey(key: string): string {
  const printable = key.replace(/[^\x21-\x7e]/g, "?");
  return printable.length < 16 ? "***" : `${printable.slice(0, 5)}***${printable.slice(-4)}`;
}

function bearerOf(authorization: string | null | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
}

function readBearer(authorization: string | null | undefined): string {
  const presented = bearerOf(authorization);
  if (presented !== undefined) return presented;
  if (authorization?.startsWith("AWS4-")) {
    throw new HubError(
      "missing_api_key",
      "This request is signed (SigV4), and signatures are not looked at here. Give AWS's SDK a key of this Switchyard in AWS_BEARER_TOKEN_BEDROCK.",
    );
  }
  throw new HubError(
    "missing_api_key",
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
  );
}

function incorrectKey(shown: string): HubError {
  return new HubError(
    "invalid_api_key",
    `Incorrect API key provided: ${shown}. An administrator of this Switchyard can create one.`,
  );
}
