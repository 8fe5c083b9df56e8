/** Opens all that is kept for clients on one database. */
import type postgres from "postgres";
import { openRunStore } from "../background/store.ts";
import type { GatewayLimits } from "../config.ts";
import { openConversationStore } from "../conversations/store.ts";
import type { GatewayParts } from "../gateway.ts";
import { openResponseStore } from "../responses/store.ts";
import { openCompletionStore } from "../stored-completions/store.ts";

/** @returns nothing where the operator wants nothing kept */
export function openKeptStores({
  sql,
  now,
  limits,
}: {
  sql: postgres.Sql;
  now: () => number;
  limits: GatewayLimits;
}): GatewayParts["kept"] {
  if (limits.responseRetentionDays === 0) return undefined;
  const shared = {
    sql,
    now,
    retentionMs: limits.responseRetentionDays * dayMs,
    timeoutMs: limits.responseStoreTimeoutMs,
  };
  const { historyBytesMax } = limits;
  return {
    responses: openResponseStore({ ...shared, historyBytesMax }),
    conversations: openConversationStore({
      ...shared,
      conversationsMax: limits.projectConversationsMax,
      itemsMax: limits.conversationItemsMax,
      bytesMax: historyBytesMax,
    }),
    completions: openCompletionStore(shared),
    runs: openRunStore({
      ...shared,
      leaseMs: limits.backgroundLeaseMs,
      runsMax: limits.backgroundRunsMax,
      runsPerProjectMax: limits.backgroundRunsPerProjectMax,
    }),
  };
}

const dayMs = 24 * 60 * 60_000;
