import { afterAll, beforeAll, expect, test } from "vitest";
import {
  eventsOf,
  type LoggedGateway,
  logKeys,
  openLoggedGateway,
} from "../../test/support/logged-gateway.ts";
import { defaultLimits } from "../config.ts";
import { LiveLog } from "./live-log.ts";

let stage: LoggedGateway;

beforeAll(async () => {
  stage = await openLoggedGateway({ limits: { liveLogRowsMax: 3, liveLogSubscribersMax: 4 } });
});
afterAll(() => stage.close());

test("a request's row tells where its time went, and its attempts when each byte left and came", async () => {
  for (const body of [{}, { stream: true }]) {
    const id = await stage.chat(logKeys.acme, body);
    const row = await json(`/api/requests/${id}`, logKeys.acme);
    const { identify, parse, plan, reserve, translate, upstream, overhead } = row.timings;
    for (const ms of [identify, parse, plan, reserve, translate, upstream]) {
      expect(ms).toBeGreaterThan(0);
    }
    expect(overhead).toBeCloseTo(identify + parse + plan + reserve + translate, 2);
    const [attempt] = row.decision.tried;
    expect(attempt.sentMs).toBeGreaterThan(0);
    expect(attempt.headMs).toBeGreaterThan(attempt.sentMs);
  }
  const metrics = await (await stage.ask(logKeys.acme, "/metrics")).text();
  expect(metrics).toContain("gateway_overhead_seconds_count 2");
  for (const part of ["identify", "parse", "plan", "reserve", "translate", "settle"]) {
    expect(metrics).toContain(`gateway_overhead_part_seconds_count{part="${part}"} 2`);
  }
  expect(metrics).toContain('gateway_upstream_sent_seconds_count{upstream="emulated"} 2');
  expect(metrics).toContain('gateway_upstream_head_seconds_count{upstream="emulated"} 2');
});

test("requests are found by status, error and user, and pages follow one another", async () => {
  const good = [];
  for (let index = 0; index < 3; index++) {
    good.push(await stage.chat(logKeys.other, { user: "ada" }));
  }
  const bad = await stage.chat(logKeys.other, { model: "broken", user: "ada" });
  const ids = async (query: string, key = logKeys.other) =>
    (await json(`/api/requests?${query}`, key)).data.map(({ id }: { id: string }) => id);
  expect(await ids("user=ada")).toEqual([bad, ...good.toReversed()]);
  expect(await ids("status=502")).toEqual([bad]);
  expect(await ids("status=5xx&error=upstream_error")).toEqual([bad]);
  expect(await ids("status=2xx")).toEqual(good.toReversed());
  expect(await ids("status=404")).toEqual([]);
  expect(await ids("user=ada&status=2xx", logKeys.acme)).toEqual([]);
  const first = await json("/api/requests?user=ada&limit=2", logKeys.admin);
  expect(first).toMatchObject({ has_more: true, last_id: good[2] });
  expect(await ids(`user=ada&limit=2&after=${first.last_id}`)).toEqual([good[1], good[0]]);
  const { at } = await json(`/api/requests/${good[1]}`, logKeys.other);
  const soon = new Date(Date.parse(at) + 1).toISOString();
  expect(await ids(`user=ada&from=${at}&to=${soon}`)).toContain(good[1]);
  expect(await ids(`to=${at}`)).not.toContain(good[1]);
  const wrong = await stage.ask(logKeys.acme, "/api/requests?status=6xx");
  expect(wrong.status).toBe(400);
});

test("every search of the log is served by an index", async () => {
  const { sql } = stage.database;
  const searches = [
    "project_id = 'p'",
    "key_id = 'k'",
    "model = 'm'",
    "task = 't'",
    "end_user = 'u'",
    "http_status >= 500 and http_status < 600 and outcome = 'upstream_failed'",
    "request_id < 'req_0' and at < now()",
    "(ingested_by, request_id) > (5, 'r')",
  ];
  for (const where of searches) {
    const plan = await sql.begin(async (tx) => {
      // A table of a few rows is read whole; of many, nobody would.
      await tx`set local enable_seqscan = off`;
      await tx`set local enable_sort = off`;
      const order = where.includes("ingested") ? "ingested_by, request_id" : "request_id desc";
      return await tx.unsafe(
        `explain select * from billing.requests where ${where} order by ${order} limit 20`,
      );
    });
    const text = plan.map((row) => row["QUERY PLAN"]).join("\n");
    expect(text, where).toContain("Index Scan");
    expect(text, where).not.toContain("Sort");
    if (!where.startsWith("request_id")) expect(text, where).toContain("Index Cond");
  }
});

test("what any gateway settles is told live: everything to an admin, its own to a project", async () => {
  const second = await stage.another();
  const [all, own, failed] = await Promise.all(
    [
      [logKeys.admin, ""],
      [logKeys.other, ""],
      [logKeys.admin, "?status=5xx"],
    ].map(async ([key = "", query]) => {
      const response = await stage.ask(key, `/api/requests/stream${query}`);
      expect(response.headers.get("content-type")).toBe("text/event-stream");
      return eventsOf(response);
    }),
  );
  const seen = async (from: typeof all) => (await from?.next())?.data.id;
  const first = await stage.chat(logKeys.acme);
  expect(await seen(all)).toBe(first);
  const there = await stage.chat(logKeys.other, {}, second);
  expect(await seen(all)).toBe(there);
  expect(await seen(own)).toBe(there);
  const broken = await stage.chat(logKeys.acme, { model: "broken" });
  expect(await failed?.next()).toMatchObject({
    event: "request",
    data: { id: broken, http_status: 502, error_code: "upstream_error", project_name: "acme" },
  });
  for (const one of [all, own, failed]) await one?.cancel();
});

test("a reader who is too slow loses rows and is told how many; further readers are refused", async () => {
  const slow = eventsOf(await stage.ask(logKeys.acme, "/api/requests/stream"));
  const quick = eventsOf(await stage.ask(logKeys.acme, "/api/requests/stream"));
  const ids: string[] = [];
  for (let index = 0; index < 6; index++) {
    ids.push(await stage.chat(logKeys.acme));
    expect((await quick.next())?.data.id).toBe(ids[index]);
  }
  const told = [];
  for (let index = 0; index < 3; index++) told.push(await slow.next());
  expect(told.slice(0, 2).map((it) => it?.data.id)).toEqual(ids.slice(0, 2));
  expect(told[2]).toEqual({ event: "lost", data: { count: 4 } });

  const others = [];
  for (let index = 0; index < 2; index++) {
    others.push(eventsOf(await stage.ask(logKeys.acme, "/api/requests/stream")));
  }
  const refused = await stage.ask(logKeys.acme, "/api/requests/stream");
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).toBe("5");
  for (const one of [slow, quick, ...others]) await one.cancel();
});

test("who asks for the head alone is no reader", async () => {
  for (let count = 0; count < 5; count++) {
    const head = await stage.ask(logKeys.acme, "/api/requests/stream", { method: "HEAD" });
    expect(head.status).toBe(200);
  }
});

test.each([
  ["reader leaves", (_live: LiveLog, stream: ReadableStream) => stream.cancel()],
  ["log closes", (live: LiveLog) => void live.close()],
])("a %s while it is asked whether it may go on, and nothing breaks", async (_what, end) => {
  const live = new LiveLog({ sql: stage.database.sql, limits: defaultLimits });
  let refuse: (() => void) | undefined;
  const authorize = () =>
    new Promise((_resolve, reject) => {
      refuse = () => reject(new Error("no longer"));
    });
  const viewer = { projectId: undefined };
  const stream = await live.follow({ filters: {}, viewer, authorize });
  await expect.poll(() => refuse).toBeDefined();
  await end(live, stream);
  refuse?.();
  await live.close();
});

test("a key that is revoked sees no further row", async () => {
  const events = eventsOf(await stage.ask(logKeys.other, "/api/requests/stream"));
  const { policy, registry, gateway } = stage;
  const revokedAt = "2026-01-01T00:00:00Z";
  registry.publish({
    ...policy,
    version: policy.version + 1,
    keys: policy.keys.map((key) =>
      key.projectId === policy.projects[1]?.id ? { ...key, revokedAt } : key,
    ),
  });
  await gateway.refresh();
  expect(await events.next()).toBeUndefined();
});

// biome-ignore lint/suspicious/noExplicitAny: a body of any shape, which the tests look into.
async function json(path: string, key: string): Promise<any> {
  return (await stage.ask(key, path)).json();
}
