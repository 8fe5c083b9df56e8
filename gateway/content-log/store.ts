/** Sealed contents and their keys in the database: written in batches, found by request, deleted in bounded steps. */
import { randomBytes, randomUUID } from "node:crypto";
import { LRUCache } from "lru-cache";
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Ask, openAsk } from "../kept/ask.ts";
import type { MasterKeys } from "./master-keys.ts";
import { keyBytes, seal, unseal } from "./seal.ts";

/** A content that is to be kept. */
export type Content = {
  requestId: string;
  projectId: string;
  endUser: string | undefined;
  atMs: number;
  expiresAtMs: number;
  truncated: boolean;
  bytes: Uint8Array;
};

/** A content that is kept, still sealed. */
export type SealedContent = {
  projectId: string;
  at: string;
  expiresAt: string;
  truncated: boolean;
  /** @throws HubError `content_unreadable` */
  open(): Buffer;
};

export type ContentStoreOptions = {
  sql: postgres.Sql;
  masterKeys: MasterKeys;
  now: () => number;
  timeoutMs: number;
  /** Rows that one statement deletes or changes. */
  rowsMax: number;
};

type DataKey = { id: string; key: Buffer };

export class ContentStore {
  readonly #options: ContentStoreOptions;
  readonly #ask: Ask;
  /** By project and day, of those that seal. */
  readonly #dataKeys = new LRUCache<string, DataKey>({ max: 1000 });

  constructor(options: ContentStoreOptions) {
    this.#options = options;
    this.#ask = openAsk(options.sql, { timeoutMs: options.timeoutMs, what: "contents" });
  }

  /**
   * Seals and writes all of them, in one statement. Those whose key was deleted in the meantime are not written: what
   * is to be forgotten does not come back.
   * @returns how many were written
   * @throws HubError `database_unavailable`
   */
  async write(contents: readonly Content[]): Promise<number> {
    const rows: Record<string, unknown>[] = [];
    for (const { requestId, projectId, endUser, atMs, expiresAtMs, ...content } of contents) {
      const { id, key } = await this.#keyOfToday(projectId);
      const sealed = seal(content.bytes, key, placeOf(projectId, requestId, id));
      rows.push({
        request_id: requestId,
        project_id: projectId,
        end_user: endUser,
        data_key_id: id,
        at: new Date(atMs).toISOString(),
        expires_at: new Date(expiresAtMs).toISOString(),
        truncated: content.truncated,
        sealed: sealed.toString("base64"),
      });
    }
    const [counted] = await this.#ask((tx) => tx.unsafe(insertion, [JSON.stringify(rows)]));
    const written = Number(counted?.written ?? 0);
    // A key may be gone; the next content asks for one anew.
    if (written < rows.length) this.#dataKeys.clear();
    return written;
  }

  async find(requestId: string): Promise<SealedContent | undefined> {
    const { masterKeys, now } = this.#options;
    const [row] = await this.#ask(
      (tx) => tx`
        select content.project_id, content.at, content.expires_at, content.truncated, content.sealed,
          key.id as key_id, key.master_key_id, key.wrapped
        from gateway.request_contents content
        join gateway.content_keys key on key.id = content.data_key_id
        where content.request_id = ${requestId} and content.expires_at > ${isoOf(now())}`,
    );
    if (!row) return undefined;
    const { project_id: projectId, key_id: keyId, master_key_id: masterKeyId, wrapped } = row;
    return {
      projectId,
      at: new Date(row.at).toISOString(),
      expiresAt: new Date(row.expires_at).toISOString(),
      truncated: row.truncated,
      open() {
        if (!masterKeys.has(masterKeyId)) {
          throw unreadable(
            `its key is sealed by the master key '${masterKeyId}', which CONTENT_LOG_KEY of this gateway does not have`,
          );
        }
        const key = masterKeys.unwrap({ masterKeyId, wrapped }, { id: keyId, projectId });
        const bytes = key && unseal(row.sealed, key, placeOf(projectId, requestId, keyId));
        if (!bytes) throw unreadable("its seal is broken, so it was changed after it was written");
        return bytes;
      },
    };
  }

  async delete(requestId: string): Promise<boolean> {
    const deleted = await this.#ask(
      (tx) => tx`delete from gateway.request_contents where request_id = ${requestId}`,
    );
    return deleted.count > 0;
  }

  /** All of one end user. @returns how many there were */
  deleteOfUser(projectId: string, endUser: string): Promise<number> {
    return this.#inSteps(
      (tx, rowsMax) => tx`
        delete from gateway.request_contents where request_id in (
          select request_id from gateway.request_contents
          where project_id = ${projectId} and end_user = ${endUser}
          limit ${rowsMax} for update)`,
    );
  }

  /** The keys go first: from then on nothing of the project can be read. @returns how many contents there were */
  async deleteOfProject(projectId: string): Promise<number> {
    await this.#ask((tx) => tx`delete from gateway.content_keys where project_id = ${projectId}`);
    this.#dataKeys.clear();
    return this.#inSteps(
      (tx, rowsMax) => tx`
        delete from gateway.request_contents where request_id in (
          select request_id from gateway.request_contents where project_id = ${projectId}
          limit ${rowsMax} for update)`,
    );
  }

  /** What a project keeps no longer than so many days goes earlier than it was to. */
  shorten(projectId: string, retentionDays: number): Promise<number> {
    return this.#inSteps(
      (tx, rowsMax) => tx`
        update gateway.request_contents set expires_at = at + ${retentionDays} * interval '1 day'
        where request_id in (
          select request_id from gateway.request_contents
          where project_id = ${projectId} and expires_at > at + ${retentionDays} * interval '1 day'
          limit ${rowsMax} for update skip locked)`,
    );
  }

  /** Deletes what has expired, and keys of past days that seal nothing any more. @returns how many contents went */
  async sweep(): Promise<number> {
    const nowMs = this.#options.now();
    const swept = await this.#inSteps(
      (tx, rowsMax) => tx`
        delete from gateway.request_contents where request_id in (
          select request_id from gateway.request_contents where expires_at <= ${isoOf(nowMs)}
          order by expires_at limit ${rowsMax} for update skip locked)`,
    );
    // A gateway may still write with the key of the day that has just ended.
    const before = dayOf(nowMs - 2 * dayMs);
    await this.#ask(
      (tx) => tx`
        delete from gateway.content_keys key where day < ${before} and not exists (
          select from gateway.request_contents content where content.data_key_id = key.id)`,
    );
    return swept;
  }

  /** Seals keys by the master key in force that are sealed by an earlier one. @returns how many */
  async rewrap(): Promise<number> {
    const { masterKeys, rowsMax } = this.#options;
    const { firstId } = masterKeys;
    if (firstId === undefined) return 0;
    let rewrapped = 0;
    for (let after = ""; ; ) {
      const rows = await this.#ask(
        (tx) => tx`
          select id, project_id, master_key_id, wrapped from gateway.content_keys
          where master_key_id <> ${firstId} and id > ${after} order by id limit ${rowsMax}`,
      );
      for (const { id, project_id: projectId, master_key_id: masterKeyId, wrapped } of rows) {
        after = id;
        const key = masterKeys.unwrap({ masterKeyId, wrapped }, { id, projectId });
        if (!key) continue;
        const anew = masterKeys.wrap(key, { id, projectId });
        const changed = await this.#ask(
          (tx) => tx`
            update gateway.content_keys
            set master_key_id = ${anew.masterKeyId}, wrapped = ${Buffer.from(anew.wrapped)}
            where id = ${id} and master_key_id = ${masterKeyId}`,
        );
        rewrapped += changed.count;
      }
      if (rows.length < rowsMax) return rewrapped;
    }
  }

  /** Each gateway seals by keys of its own. */
  async #keyOfToday(projectId: string): Promise<DataKey> {
    const { masterKeys, now } = this.#options;
    const day = dayOf(now());
    const known = this.#dataKeys.get(`${projectId} ${day}`);
    if (known) return known;
    const place = { id: randomUUID(), projectId };
    const key = randomBytes(keyBytes);
    const { masterKeyId, wrapped } = masterKeys.wrap(key, place);
    await this.#ask(
      (tx) => tx`
        insert into gateway.content_keys (id, project_id, day, master_key_id, wrapped)
        values (${place.id}, ${projectId}, ${day}, ${masterKeyId}, ${Buffer.from(wrapped)})`,
    );
    const dataKey = { id: place.id, key };
    this.#dataKeys.set(`${projectId} ${day}`, dataKey);
    return dataKey;
  }

  async #inSteps(
    step: (tx: postgres.TransactionSql, rowsMax: number) => postgres.PendingQuery<postgres.Row[]>,
  ): Promise<number> {
    const { rowsMax } = this.#options;
    for (let all = 0; ; ) {
      const { count } = await this.#ask((tx) => step(tx, rowsMax));
      all += count;
      if (count < rowsMax) return all;
    }
  }
}

/** A row that is put in another's place opens as nothing. */
function placeOf(projectId: string, requestId: string, keyId: string): string {
  return `switchyard content 1\n${projectId}\n${requestId}\n${keyId}`;
}

function unreadable(why: string): HubError {
  return new HubError(
    "content_unreadable",
    `What is kept of this request cannot be opened: ${why}.`,
  );
}

const isoOf = (ms: number) => new Date(ms).toISOString();
const dayOf = (ms: number) => isoOf(ms).slice(0, 10);
const dayMs = 24 * 60 * 60_000;

const insertion = `
  with rows as (
    select * from jsonb_to_recordset($1::text::jsonb) as row (
      request_id text, project_id text, end_user text, data_key_id text,
      at timestamptz, expires_at timestamptz, truncated boolean, sealed text)
  ), keys as (
    select id from gateway.content_keys where id in (select data_key_id from rows) for share
  ), written as (
    insert into gateway.request_contents
      (request_id, project_id, end_user, data_key_id, at, expires_at, truncated, sealed)
    select request_id, project_id, end_user, data_key_id, at, expires_at, truncated,
      decode(sealed, 'base64')
    from rows join keys on keys.id = rows.data_key_id
    on conflict (request_id) do nothing
    returning request_id
  )
  select count(*)::int as written from written`;
