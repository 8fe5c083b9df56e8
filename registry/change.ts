/** How the registry changes: one transaction, one writer at a time, and each change writes its event. */
import { sql } from "drizzle-orm";
import type { ProjectId } from "../sdk/protocol/ids.ts";
import type { Database, Transaction } from "./db.ts";
import { events } from "./schema.ts";

/** A change under way. What is recorded and what is written become visible together, or never. */
export type Change = {
  tx: Transaction;
  /** Who changes: a key's, a person's or a service account's id, `operator`, or `settings`. */
  actor: string;
  /** From where, as far as that is known. */
  address: string | undefined;
  /** The same for all rows of the change. */
  at: Date;
  record(event: ChangeEvent): Promise<void>;
};

type ChangeEvent = {
  /** Past tense after the thing, such as `alias.moved`. */
  type: string;
  /** Id of the thing that changed. */
  subject: string;
  /** Whose history it belongs to; null for what belongs to no project. */
  projectId: ProjectId | null;
  detail?: Record<string, unknown>;
};

/** Who changes, and from where. */
export type Author = { actor: string; address: string | undefined };

export type ChangeLog = {
  /**
   * Runs `work` in a transaction and wakes those who wait for changes once it is committed.
   * Writers take turns, because events must become visible in the order of their ids: whoever has seen
   * event 7 would never ask for an event 6 that was committed later.
   */
  change<T>(by: string | Author, work: (change: Change) => Promise<T>): Promise<T>;
  /** Calls back after each change that this process commits, until the returned function is called. */
  onChange(listener: () => void): () => void;
};

export function createChangeLog(db: Database, now: () => number): ChangeLog {
  const listeners = new Set<() => void>();
  return {
    async change(by, work) {
      const { actor, address } = typeof by === "string" ? { actor: by, address: undefined } : by;
      let recorded = 0;
      const result = await db.transaction(async (tx) => {
        await tx.execute(sql`select pg_advisory_xact_lock(${writerLock})`);
        const at = new Date(now());
        const record = async ({ detail = {}, ...event }: ChangeEvent) => {
          recorded++;
          await tx.insert(events).values({ ...event, detail, at, actor, address: address ?? null });
        };
        return work({ tx, actor, address, at, record });
      });
      if (recorded > 0) for (const listener of [...listeners]) listener();
      return result;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** An arbitrary number that all processes share; the letters "regi" in ASCII. */
const writerLock = 0x72656769;
