import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { migrateLedger } from "../ledger/database.ts";
import { testTimeMs } from "../metering/testing.ts";
import { createBudgetAlerts, listAlerts } from "./alerts.ts";
import { counterOf } from "./counters.ts";
import { type AlertPosts, createAlertPosts, waitAfter } from "./webhook.ts";

type Post = { share: number; id: number; messageId: string | undefined };
let database: TestDatabase;
const posted: Post[] = [];
const taken: number[] = [];
/** What the webhook answers next; 0 is no answer. */
const statuses: number[] = [];
const opened: AlertPosts[] = [];
const server = createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  const { id, share } = JSON.parse(text);
  posted.push({ share, id, messageId: request.headers["webhook-id"] as string | undefined });
  const status = statuses.shift() ?? 200;
  if (status === 0) return;
  if (status === 200) taken.push(share);
  response.writeHead(status).end();
});
beforeAll(async () => {
  database = await openTestDatabase();
  await migrateLedger(database.sql);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
beforeEach(async () => {
  for (const list of [posted, taken, statuses]) list.length = 0;
  await database.sql`truncate billing.budget_alerts`;
});
afterEach(async () => {
  for (const posts of opened.splice(0)) await posts.close();
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await database?.close();
});

test("an alert is posted until it is taken, once, and those after it wait for it", async () => {
  statuses.push(...Array.from({ length: 9 }, () => 503));
  await write([0.5, 0.8]);
  const { posts, errors } = open();
  await untilTaken([0.5, 0.8], posts);
  expect(posted.map(({ share }) => share)).toEqual([...Array(10).fill(0.5), 0.8]);
  expect(new Set(posted.map(({ id }) => id)).size).toBe(2);
  expect(posted[0]?.messageId).toBe(`budget_alert_${posted[0]?.id}`);
  expect(errors).toEqual([]);
  await vi.waitFor(async () => expect(await listed()).toEqual([0.5, 0.8]));
});

test("waits grow to a minute, and end when they are too long together", () => {
  const waits = (retryForMs: number) =>
    Array.from({ length: 9 }, (_, index) => waitAfter(index + 1, retryForMs));
  expect(waits(3_600_000)).toEqual([
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000,
  ]);
  expect(waits(2_000).slice(0, 3)).toEqual([500, 1_000, undefined]);
});

test("what nobody takes in time is told and given up", async () => {
  statuses.push(500, 500, 500);
  await write([0.5, 0.8]);
  const { posts, errors } = open({ retryForMs: 2_000 });
  await untilTaken([0.8], posts);
  expect(posted.map(({ share }) => share)).toEqual([0.5, 0.5, 0.5, 0.8]);
  expect(String(errors[0])).toContain("answered 500");
  await vi.waitFor(async () => expect(await listed()).toEqual([0.8]));
});

test("what is refused for what it is holds up nobody behind it", async () => {
  statuses.push(413);
  await write([0.5, 0.8]);
  const { errors } = open();
  await vi.waitFor(() => expect(taken).toEqual([0.8]), { timeout: 30_000 });
  expect(posted).toHaveLength(2);
  expect(String(errors[0])).toContain("answered 413");
});

test("what a gateway wrote down and did not live to post is posted by the others, once", async () => {
  const gateways = [open(), open()];
  await write([0.5, 0.8, 1]);
  for (const { posts } of gateways) posts.wake();
  await vi.waitFor(() => expect(taken).toEqual([0.5, 0.8, 1]), { timeout: 30_000 });
  expect(posted).toHaveLength(3);
});

test("what a gateway died of while it posted is posted again with the same id, when its time is over", async () => {
  statuses.push(0);
  await write([0.5]);
  // It hangs in its first post, and does nothing more.
  open({ timeoutMs: 3_600_000, pollMs: 3_600_000 });
  await vi.waitFor(() => expect(posted).toHaveLength(1), { timeout: 30_000 });
  const next = open();
  await untilTaken([0.5], next.posts, "3 hours");
  expect(posted[1]).toEqual(posted[0]);
});

test("so many wait for the webhook, and further ones are only listed", async () => {
  expect(await write([0.5, 0.8, 1], { toPostMax: 2 })).toBe(3);
  open();
  await vi.waitFor(() => expect(taken).toEqual([0.5, 0.8]), { timeout: 30_000 });
  const all = await listAlerts(database.sql, { projectId: "p", before: undefined, limit: 9 });
  expect(all.map(({ share }) => share)).toEqual([1, 0.8, 0.5]);
});

/** Finds these shares spent, as a gateway does that dies before it posts them. */
async function write(alertAt: number[], { toPostMax = 100 } = {}): Promise<number> {
  let told = 0;
  const alerts = createBudgetAlerts({
    sql: database.sql,
    now: () => testTimeMs,
    waitingMax: 100,
    retryMs: 60_000,
    toPostMax,
    onAlert: () => told++,
    onError(error) {
      throw error;
    },
  });
  for (const share of alertAt) {
    const counter = counterOf(
      { type: "project", id: "p", projectId: "p" },
      { limitUsd: "100", period: "month", alertAt: [share] },
      { user: undefined, model: undefined, atMs: testTimeMs },
    );
    alerts.rose([{ counter, before: 100n * usd, after: 100n * usd }]);
    await alerts.flush();
  }
  return told;
}

function open({ timeoutMs = 60_000, retryForMs = 3_600_000, pollMs = 50 } = {}) {
  const { port } = server.address() as AddressInfo;
  const errors: unknown[] = [];
  const posts = createAlertPosts({
    ...{ sql: database.sql, url: `http://127.0.0.1:${port}/`, timeoutMs, retryForMs, pollMs },
    ready: async () => {},
    onError: (error) => errors.push(error),
  });
  opened.push(posts);
  return { posts, errors };
}

/** Whoever waits has waited long enough, each time it is looked at. */
async function untilTaken(
  shares: number[],
  posts: AlertPosts,
  waitMax = "61 seconds",
): Promise<void> {
  await vi.waitFor(
    async () => {
      await database.sql`update billing.budget_alerts set post_at = now()
        where post_at < now() + ${waitMax}::text::interval`;
      posts.wake();
      expect(taken).toEqual(shares);
    },
    { timeout: 30_000 },
  );
}

async function listed(): Promise<number[]> {
  const all = await listAlerts(database.sql, { projectId: "p", before: undefined, limit: 9 });
  return all.flatMap(({ share, posted_at: at }) => (at === null ? [] : [share])).reverse();
}

const usd = 10n ** 12n;
