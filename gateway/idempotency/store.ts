/** Keeps what was answered to a request with a key, for all gateways that share the database. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { inTime } from "../ledger/in-time.ts";

export type KeyedRequest = {
  projectId: string;
  keyHash: string;
  fingerprint: string;
  requestId: string;
  /** Unique to this try. */
  owner: string;
};

export type KeptAnswer = { status: number; headers: Record<string, string>; body: Uint8Array };

export type Claim =
  /** The caller is to answer it, and to `keep` or `release` it afterwards. */
  | { type: "claimed" }
  | { type: "under_way" }
  | { type: "answered"; requestId: string; answer: KeptAnswer }
  /** It was answered, and the answer is not here any more. */
  | { type: "not_kept"; requestId: string }
  /** The key stands for another request. */
  | { type: "different" };

export type IdempotencyStore = {
  claim(request: KeyedRequest): Promise<Claim>;
  /** Says that those are still under way. */
  renew(owners: readonly string[]): Promise<void>;
  /** @param answer absent where it is too large to keep */
  keep(owner: KeyedRequest, answer: KeptAnswer | undefined): Promise<void>;
  /** Forgets the request, so that it may be made anew. */
  release(owner: KeyedRequest): Promise<void>;
};

export type IdempotencyStoreOptions = {
  sql: postgres.Sql;
  retentionMs: number;
  /** Without a sign of life for so long, a request that is under way is taken for lost. */
  leaseMs: number;
  /** The newest that are kept of a project. */
  answersMax: number;
  timeoutMs: number;
};

/** Times are the database's own, so that gateways whose clocks differ agree. */
export function openIdempotencyStore(options: IdempotencyStoreOptions): IdempotencyStore {
  const { sql, retentionMs, leaseMs, answersMax } = options;
  const inDatabase = <T>(query: Promise<T>) =>
    inTime(query, { timeoutMs: options.timeoutMs, failure: away });
  let keptCount = 0;

  async function forget(projectId: string): Promise<void> {
    await sql`delete from gateway.idempotent_requests where expires_at < clock_timestamp()`;
    await sql`
      delete from gateway.idempotent_requests
      where project_id = ${projectId} and status is not null and key_hash in (
        select key_hash from gateway.idempotent_requests
        where project_id = ${projectId} and status is not null
        order by expires_at desc offset ${answersMax})`;
  }

  return {
    async claim({ projectId, keyHash, fingerprint, requestId, owner }) {
      const claimed = await inDatabase(sql`
        insert into gateway.idempotent_requests as kept
          (project_id, key_hash, fingerprint, owner, request_id, lease_until, expires_at)
        values (${projectId}, ${keyHash}, ${fingerprint}, ${owner}, ${requestId},
          clock_timestamp() + ${leaseMs} * interval '1 ms',
          clock_timestamp() + ${retentionMs} * interval '1 ms')
        on conflict (project_id, key_hash) do update set
          fingerprint = excluded.fingerprint, owner = excluded.owner,
          request_id = excluded.request_id, lease_until = excluded.lease_until,
          expires_at = excluded.expires_at, status = null, headers = null, body = null
        where kept.expires_at < clock_timestamp()
          or (kept.status is null and kept.lease_until < clock_timestamp())
        returning owner`);
      if (claimed.count > 0) return { type: "claimed" };
      const [row] = await inDatabase(sql<Row[]>`
        select fingerprint, request_id, status, headers, body from gateway.idempotent_requests
        where project_id = ${projectId} and key_hash = ${keyHash}`);
      // It was let go between the two questions; the caller asks again.
      if (!row) return { type: "under_way" };
      if (row.fingerprint !== fingerprint) return { type: "different" };
      if (row.status === null) return { type: "under_way" };
      if (row.status === 0) return { type: "not_kept", requestId: row.request_id };
      const { status, headers, body } = row;
      return {
        type: "answered",
        requestId: row.request_id,
        answer: { status, headers: headers ?? {}, body: body ?? new Uint8Array() },
      };
    },

    async renew(owners) {
      await inDatabase(sql`
        update gateway.idempotent_requests
        set lease_until = clock_timestamp() + ${leaseMs} * interval '1 ms'
        where owner in ${sql([...owners])} and status is null`);
    },

    async keep({ projectId, keyHash, owner }, answer) {
      await inDatabase(sql`
        update gateway.idempotent_requests set
          status = ${answer?.status ?? 0},
          headers = ${JSON.stringify(answer?.headers ?? {})}::text::jsonb,
          body = ${answer ? Buffer.from(answer.body) : null},
          expires_at = clock_timestamp() + ${retentionMs} * interval '1 ms'
        where project_id = ${projectId} and key_hash = ${keyHash} and owner = ${owner}`);
      if (keptCount++ % forgetEvery === 0) forget(projectId).catch(() => {});
    },

    async release({ projectId, keyHash, owner }) {
      await inDatabase(sql`
        delete from gateway.idempotent_requests
        where project_id = ${projectId} and key_hash = ${keyHash} and owner = ${owner}`);
    },
  };
}

type Row = {
  fingerprint: string;
  request_id: string;
  status: number | null;
  headers: Record<string, string> | null;
  body: Uint8Array | null;
};

function away(cause: unknown): HubError {
  return new HubError(
    "database_unavailable",
    "Whether a request with this 'Idempotency-Key' was made before cannot be told at the moment. Without the key it would be taken.",
    { cause, retryAfterMs: 1000 },
  );
}

/** Answers between two looks at what has expired. */
const forgetEvery = 100;
