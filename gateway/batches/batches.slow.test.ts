/** Batches by the official client, over a real database: how they end, what they cost, and who works on them. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import OpenAI, { toFile } from "openai";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Project } from "../../sdk/protocol/catalog.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import {
  type EmulatedRequest,
  type OpenAiEmulator,
  startOpenAiEmulator,
} from "../../test/emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { type TestRegistry, testRegistry } from "../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testSnapshot,
} from "../../test/support/policy.ts";
import { defaultLimits, type GatewayLimits } from "../config.ts";
import { FileStore } from "../files/store.ts";
import { migrateLedger } from "../ledger/database.ts";
import { type OpenedGateway, openGateway } from "../open-gateway.ts";
import { BatchLease } from "./lease.ts";
import { BatchStore } from "./store.ts";
import { BatchWork } from "./work.ts";

const operatorKey = "operator-key-of-the-tests";
const endpoint = "/v1/chat/completions";

let nowMs: number;
let database: TestDatabase;
let emulator: OpenAiEmulator;
/** What the emulated model does before it answers. */
let before: (text: string) => Promise<void> | void;
const opened: OpenedGateway[] = [];
const pools: TestDatabase["sql"][] = [];
const folders: string[] = [];

beforeAll(async () => {
  database = await openTestDatabase();
  await migrateLedger(database.sql);
  // A language's order of texts, as most databases have it, is not that of their bytes.
  await database.sql`alter table gateway.batches alter column id type text collate "und-x-icu"`;
});
afterAll(() => database.close());
beforeEach(async () => {
  nowMs = Date.parse("2026-06-01T12:00:00Z");
  before = () => {};
  emulator = await startOpenAiEmulator({
    answer: (request) => `echo ${textOf(request)}`,
    before: (request) => before(textOf(request)),
  });
});
afterEach(async () => {
  for (const gateway of opened.splice(0)) await gateway.stop();
  for (const pool of pools.splice(0)) await pool.end({ timeout: 1 });
  await emulator.close();
  await database.sql`delete from gateway.batches`;
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

const textOf = ({ messages }: EmulatedRequest) => String(messages?.at(-1)?.content ?? "");

type Policy = { project?: Partial<Project>; prices?: { input: string; output: string } };

function policyOf({ project = {}, prices }: Policy = {}) {
  const acme = testProject("acme", project);
  const other = testProject("other");
  const batchPrice = testPrices("gpt-test", { input: "0.000001", output: "0.000002" })[0];
  return testSnapshot({
    projects: [acme, other],
    keys: [
      testKey("sk-sy-key-of-acme", { projectId: acme.id }),
      testKey("sk-sy-key-of-other", { projectId: other.id }),
      testKey("sk-sy-admin-key", { role: "admin" }),
    ],
    models: [
      testModel("gpt-test"),
      testModel("gpt-failing", { upstreamModel: "gpt-failing!status:503" }),
    ],
    prices: [
      ...testPrices("gpt-test", prices ?? { input: "0.000002", output: "0.000004" }),
      ...(batchPrice ? [{ ...batchPrice, id: newId("price"), tier: "batch" as const }] : []),
    ],
  });
}

type Opened = { gateway: OpenedGateway; client: OpenAI; registry: TestRegistry };

async function open(
  snapshot = policyOf(),
  limits: Partial<GatewayLimits> = {},
  key = "sk-sy-key-of-acme",
): Promise<Opened> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-batches-"));
  folders.push(dataDir);
  const registry = testRegistry(snapshot, operatorKey);
  const sql = database.connect();
  pools.push(sql);
  const gateway = await openGateway({
    sql,
    dataDir,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    registry,
    operatorKey,
    logger: pino({ level: process.env.TEST_LOG ?? "silent" }),
    limits: { batchRetryMs: 20, batchRetryMsMax: 100, batchPollMs: 100, ...limits },
    now: () => nowMs,
  });
  opened.push(gateway);
  await gateway.start();
  return { gateway, registry, client: clientOf(gateway, key) };
}

const clientOf = ({ app }: OpenedGateway, apiKey = "sk-sy-key-of-acme") =>
  new OpenAI({
    apiKey,
    baseURL: "http://gateway/v1",
    maxRetries: 0,
    fetch: async (url, init) => app.fetch(new Request(url as string, init)),
  });

const line = (customId: string, body: object = {}) =>
  JSON.stringify({
    custom_id: customId,
    method: "POST",
    url: endpoint,
    body: { model: "gpt-test", messages: [{ role: "user", content: customId }], ...body },
  });

async function create(client: OpenAI, lines: readonly string[], more: object = {}) {
  const file = await toFile(Buffer.from(lines.join("\n")), "input.jsonl");
  const input = await client.files.create({ file, purpose: "batch" });
  return client.batches.create({
    input_file_id: input.id,
    endpoint,
    completion_window: "24h",
    ...more,
  });
}

const settled = ["completed", "failed", "expired", "cancelled"];

async function untilOver(client: OpenAI, id: string) {
  await expect
    .poll(async () => settled.includes((await client.batches.retrieve(id)).status), {
      timeout: 30_000,
      interval: 50,
    })
    .toBe(true);
  return client.batches.retrieve(id);
}

function openPromise() {
  let resolve = () => {};
  const promise = new Promise<void>((it) => {
    resolve = it;
  });
  return { promise, resolve };
}

type OutputLine = {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string; body: Record<string, never> } | null;
  error: { code: string; message: string } | null;
};

async function linesOf(client: OpenAI, fileId: string | null | undefined): Promise<OutputLine[]> {
  if (!fileId) return [];
  const text = await (await client.files.content(fileId)).text();
  expect(text.endsWith("\n")).toBe(true);
  return text
    .trimEnd()
    .split("\n")
    .map((it) => JSON.parse(it) as OutputLine);
}

test("a key that is for certain endpoints has no batch ask others for it", async () => {
  const policy = policyOf();
  const scopes = { endpoints: ["/v1/files", "/v1/batches", "/v1/embeddings"] };
  const keys = policy.keys.map((key, index) => (index === 0 ? { ...key, scopes } : key));
  const { client } = await open({ ...policy, keys });
  await expect(create(client, [line("a")])).rejects.toMatchObject({
    status: 403,
    code: "permission_denied",
  });
  const other = line("a").replace(endpoint, "/v1/embeddings");
  expect(await create(client, [other], { endpoint: "/v1/embeddings" })).toMatchObject({
    object: "batch",
  });
});

test("a batch's answers are in its output file, its failures in its error file, at the batch's price", async () => {
  const { client, gateway } = await open();
  const ids = ["a", "b", "c"];
  const batch = await create(
    client,
    [
      ...ids.map((id) => line(id)),
      line("wrong", { messages: "none" }),
      line("gone", { model: "no-such" }),
    ],
    { metadata: { job: "nightly" } },
  );
  expect(batch).toMatchObject({
    id: expect.stringMatching(/^batch_[0-9a-z]{26}$/),
    object: "batch",
    endpoint,
    status: "validating",
    errors: null,
    output_file_id: null,
    created_at: nowMs / 1000,
    expires_at: nowMs / 1000 + 24 * 3600,
    request_counts: { total: 0, completed: 0, failed: 0 },
    metadata: { job: "nightly" },
  });
  const over = await untilOver(client, batch.id);
  expect(over).toMatchObject({
    status: "completed",
    in_progress_at: nowMs / 1000,
    finalizing_at: nowMs / 1000,
    completed_at: nowMs / 1000,
    request_counts: { total: 5, completed: 3, failed: 2 },
  });
  const output = await linesOf(client, over.output_file_id);
  expect(output).toEqual(
    ids.map((id, index) => ({
      id: `batch_req_${batch.id.slice(6)}_${index + 1}`,
      custom_id: id,
      response: {
        status_code: 200,
        request_id: expect.stringMatching(/^req_/),
        body: expect.objectContaining({ object: "chat.completion" }),
      },
      error: null,
    })),
  );
  const errors = await linesOf(client, over.error_file_id);
  expect(errors).toMatchObject([
    {
      custom_id: "wrong",
      response: { status_code: 400, body: { error: { param: "messages" } } },
      error: null,
    },
    {
      custom_id: "gone",
      response: { status_code: 404, body: { error: { code: "model_not_found" } } },
    },
  ]);
  const file = await client.files.retrieve(over.output_file_id ?? "");
  expect(file).toMatchObject({ purpose: "batch_output", filename: `${batch.id}_output.jsonl` });

  await gateway.flush();
  const rows = await database.sql`
    select request_id, batch_id, input::int, output::int, cost::text from billing.requests
    where outcome = 'ok'`;
  expect(new Set(rows.map((row) => row.request_id))).toEqual(
    new Set(output.map(({ response }) => response?.request_id)),
  );
  // A word in, at the batch's price, and two out, at everyone's.
  for (const row of rows) {
    expect(row).toMatchObject({ batch_id: batch.id, input: 1, output: 2, cost: "0.000009000000" });
  }
});

test("a file that is wrong runs nothing, and each of its faults is told with its line", async () => {
  const { client } = await open();
  const batch = await create(client, [line("a"), "{", line("a"), line("b", { stream: true })]);
  const over = await untilOver(client, batch.id);
  expect(over).toMatchObject({ status: "failed", failed_at: nowMs / 1000, output_file_id: null });
  expect(over.errors?.object).toBe("list");
  expect(over.errors?.data?.map((it) => [it.line, it.code])).toEqual([
    [2, "invalid_json_line"],
    [3, "duplicate_custom_id"],
    [4, "unsupported_parameter"],
  ]);
  expect(emulator.requests).toEqual([]);
});

test("what cannot become a batch is refused when it is asked for", async () => {
  const { client, gateway } = await open(policyOf(), { projectBatchesMax: 1 });
  const other = await client.files.create({
    file: await toFile(Buffer.from("x"), "a.txt"),
    purpose: "vision",
  });
  const ask = (more: object, by = client) =>
    by.batches.create({ input_file_id: other.id, endpoint, completion_window: "24h", ...more });
  await expect(ask({})).rejects.toMatchObject({ status: 400, param: "input_file_id" });
  await expect(ask({ input_file_id: "file-none" })).rejects.toMatchObject({ status: 404 });
  await expect(ask({ endpoint: "/v1/images" })).rejects.toMatchObject({ param: "endpoint" });
  await expect(ask({ completion_window: "1s" })).rejects.toMatchObject({
    param: "completion_window",
  });
  await expect(ask({}, clientOf(gateway, "sk-sy-admin-key"))).rejects.toMatchObject({
    status: 403,
  });

  const { promise: released, resolve: release } = openPromise();
  before = () => released;
  const batch = await create(client, [line("a")]);
  await expect.poll(() => emulator.requests.length).toBe(1);
  const again = { input_file_id: batch.input_file_id };
  await expect(ask(again)).rejects.toMatchObject({ status: 429 });
  await expect(client.files.delete(batch.input_file_id)).rejects.toMatchObject({ status: 409 });
  const theirs = clientOf(gateway, "sk-sy-key-of-other");
  await expect(ask(again, theirs)).rejects.toMatchObject({ status: 404 });
  await expect(theirs.batches.retrieve(batch.id)).rejects.toMatchObject({ status: 404 });
  await expect(theirs.batches.cancel(batch.id)).rejects.toMatchObject({ status: 404 });
  expect((await theirs.batches.list()).data).toEqual([]);
  release();
  await untilOver(client, batch.id);
  await expect(client.batches.cancel(batch.id)).rejects.toMatchObject({ status: 409 });
  await client.files.delete(batch.input_file_id);
});

test("batches are listed, the newest first, page by page", async () => {
  const { client } = await open();
  const ids: string[] = [];
  for (let index = 0; index < 3; index++) {
    nowMs += 1000;
    ids.push((await create(client, [line("a")])).id);
  }
  const found: string[] = [];
  for await (const { id } of client.batches.list({ limit: 2 })) found.push(id);
  expect(found).toEqual(ids.toReversed());
});

test("a cancelled batch finishes what is under way, keeps it, and tells of the rest", async () => {
  const waiting: (() => void)[] = [];
  before = () => new Promise<void>((resolve) => void waiting.push(resolve));
  const { client } = await open(policyOf(), { batchLinesUnderWayMax: 2 });
  const ids = ["a", "b", "c", "d"];
  const batch = await create(
    client,
    ids.map((id) => line(id)),
  );
  await expect.poll(() => waiting.length).toBe(2);
  expect(await client.batches.cancel(batch.id)).toMatchObject({
    status: "cancelling",
    cancelling_at: nowMs / 1000,
  });
  expect(await client.batches.cancel(batch.id)).toMatchObject({ status: "cancelling" });
  for (const go of waiting) go();
  const over = await untilOver(client, batch.id);
  expect(over).toMatchObject({
    status: "cancelled",
    cancelled_at: nowMs / 1000,
    request_counts: { total: 4, completed: 2, failed: 0 },
  });
  expect((await linesOf(client, over.output_file_id)).map((it) => it.custom_id)).toEqual([
    "a",
    "b",
  ]);
  expect(await linesOf(client, over.error_file_id)).toMatchObject(
    ["c", "d"].map((id) => ({ custom_id: id, response: null, error: { code: "batch_cancelled" } })),
  );
  expect(emulator.requests).toHaveLength(2);
});

test("a batch whose window is over expires with what it has", async () => {
  const { client } = await open(policyOf(), { batchLinesUnderWayMax: 1 });
  before = (text) => {
    if (text === "b") nowMs += 24 * 3_600_000;
  };
  const batch = await create(
    client,
    ["a", "b", "c"].map((id) => line(id)),
  );
  const over = await untilOver(client, batch.id);
  expect(over).toMatchObject({
    status: "expired",
    expired_at: nowMs / 1000,
    request_counts: { total: 3, completed: 2, failed: 0 },
  });
  expect(await linesOf(client, over.output_file_id)).toHaveLength(2);
  expect(await linesOf(client, over.error_file_id)).toMatchObject([
    { custom_id: "c", error: { code: "batch_expired" } },
  ]);
});

test("a batch whose window is over before anybody looked at its file expires", async () => {
  const { pool, lease, parts } = await claimed();
  nowMs += 24 * 3_600_000;
  const ask = async () => Response.json({});
  await new BatchWork(lease, { ...parts, ask }).run();
  const [row] = await pool`select status, total from gateway.batches where id = ${lease.batch.id}`;
  expect(row).toEqual({ status: "expired", total: 0 });
});

test("a rate limit is waited for, and a model that fails is tried again, some times", async () => {
  const snapshot = policyOf({ project: { limits: { concurrentRequests: 1 } } });
  const limits = { batchLinesUnderWayMax: 4, batchAttemptsMax: 3, breakerFailures: 100 };
  const { client, gateway } = await open(snapshot, limits);
  const ids = ["a", "b", "c", "d", "e"];
  const failing = line("f", { model: "gpt-failing" });
  const batch = await create(client, [...ids.map((id) => line(id)), failing]);
  const over = await untilOver(client, batch.id);
  expect(over.request_counts).toEqual({ total: 6, completed: 5, failed: 1 });
  expect(await linesOf(client, over.error_file_id)).toMatchObject([
    { custom_id: "f", response: { status_code: 503 }, error: null },
  ]);
  await gateway.flush();
  const tries = await database.sql`
    select outcome from billing.requests where batch_id = ${batch.id} and outcome <> 'ok'`;
  expect(tries.map((row) => row.outcome)).toEqual(Array(3).fill("upstream_failed"));
});

test("a budget that is used up in the middle refuses the rest, and what was paid for is kept", async () => {
  const project = { budget: { limitUsd: "0.0003", period: "total" as const } };
  const { client } = await open(policyOf({ project }), { batchLinesUnderWayMax: 1 });
  const ids = Array.from({ length: 40 }, (_, index) => `line-${index}`);
  const batch = await create(
    client,
    ids.map((id) => line(id, { max_tokens: 2 })),
  );
  const over = await untilOver(client, batch.id);
  const { completed = 0, failed = 0 } = over.request_counts ?? {};
  expect(over.status).toBe("completed");
  expect([completed > 0, failed > 0, completed + failed]).toEqual([true, true, 40]);
  expect(await linesOf(client, over.output_file_id)).toHaveLength(completed);
  for (const { response } of await linesOf(client, over.error_file_id)) {
    expect(response).toMatchObject({
      status_code: 429,
      body: { error: { code: "insufficient_quota" } },
    });
  }
});

test("a key that is revoked in the middle runs nothing more", async () => {
  const snapshot = policyOf();
  const { client, registry, gateway } = await open(snapshot, { batchLinesUnderWayMax: 1 });
  before = async (text) => {
    if (text !== "a") return;
    const keys = snapshot.keys.map((key) =>
      key.name === "sk-sy-ke" && key.projectId === snapshot.projects[0]?.id
        ? { ...key, revokedAt: "2026-06-01T00:00:00Z" }
        : key,
    );
    const spare = testKey("sk-sy-key-of-spare", { projectId: snapshot.projects[0]?.id });
    registry.publish({ ...snapshot, keys: [...keys, spare], version: snapshot.version + 1 });
    await gateway.refresh();
  };
  const batch = await create(
    client,
    ["a", "b"].map((id) => line(id)),
  );
  const spare = clientOf(gateway, "sk-sy-key-of-spare");
  await expect
    .poll(async () => (await spare.batches.retrieve(batch.id).catch(() => undefined))?.status, {
      timeout: 20_000,
    })
    .toBe("completed");
  const over = await spare.batches.retrieve(batch.id);
  expect(over.request_counts).toEqual({ total: 2, completed: 1, failed: 1 });
  expect(await linesOf(spare, over.error_file_id)).toMatchObject([
    { custom_id: "b", response: { status_code: 401 } },
  ]);
});

test("a batch runs nothing more at an endpoint that its key is no longer for", async () => {
  const snapshot = policyOf();
  const forFiles = ["/v1/files", "/v1/batches"];
  const scoped = (endpoints: string[]) => ({
    ...snapshot,
    version: snapshot.version + endpoints.length,
    keys: snapshot.keys.map((key) => ({ ...key, scopes: { endpoints } })),
  });
  const { client, registry, gateway } = await open(scoped([...forFiles, endpoint]), {
    batchLinesUnderWayMax: 1,
  });
  before = async (text) => {
    if (text !== "a") return;
    registry.publish(scoped([...forFiles, "/v1/models", "/v1/embeddings"]));
    await gateway.refresh();
  };
  const batch = await create(
    client,
    ["a", "b"].map((id) => line(id)),
  );
  const over = await untilOver(client, batch.id);
  expect(over.request_counts).toEqual({ total: 2, completed: 1, failed: 1 });
  expect(await linesOf(client, over.error_file_id)).toMatchObject([
    { custom_id: "b", response: { status_code: 403 } },
  ]);
});

test("results have a bound; what is beyond it is not run", async () => {
  const { client } = await open(policyOf(), { batchOutputBytesMax: 10, batchLinesUnderWayMax: 1 });
  const over = await untilOver(client, (await create(client, [line("a"), line("b")])).id);
  expect(over).toMatchObject({ status: "completed", request_counts: { completed: 1, failed: 1 } });
  expect(await linesOf(client, over.error_file_id)).toMatchObject([
    { custom_id: "b", response: null, error: { code: "batch_output_too_large" } },
  ]);
});

test("a batch that its gateway leaves is finished by another, each line once", async () => {
  const limits = { batchLinesUnderWayMax: 2 };
  const snapshot = policyOf();
  const first = await open(snapshot, limits);
  const ids = Array.from({ length: 12 }, (_, index) => `line-${index}`);
  const { promise: half, resolve: halfway } = openPromise();
  before = (text) => {
    if (text === "line-5") halfway();
  };
  const batch = await create(
    first.client,
    ids.map((id) => line(id)),
  );
  await half;
  await first.gateway.stop();
  const second = await open(snapshot, limits);
  const over = await untilOver(second.client, batch.id);
  expect(over.request_counts).toEqual({ total: 12, completed: 12, failed: 0 });
  const output = await linesOf(second.client, over.output_file_id);
  expect(output.map((it) => it.custom_id)).toEqual(ids);
  expect(emulator.requests.map(({ body }) => textOf(body)).sort()).toEqual([...ids].sort());
});

test("of two gateways with one database one works on a batch, however long it takes", async () => {
  const snapshot = policyOf();
  const limits = { batchLinesUnderWayMax: 1, batchLeaseMs: 3000, batchPollMs: 50 };
  const [one, two] = [await open(snapshot, limits), await open(snapshot, limits)];
  const ids = ["a", "b", "c"];
  // Longer than the lease: it has to be renewed meanwhile.
  before = async (text) => {
    if (text === "1a") await new Promise((resolve) => setTimeout(resolve, 4000));
  };
  const batches = [
    await create(
      one.client,
      ids.map((id) => line(`1${id}`)),
    ),
    await create(
      two.client,
      ids.map((id) => line(`2${id}`)),
    ),
  ];
  for (const { id } of batches) {
    const over = await untilOver(two.client, id);
    expect(over.request_counts).toEqual({ total: 3, completed: 3, failed: 0 });
  }
  const asked = emulator.requests.map(({ body }) => textOf(body)).sort();
  expect(asked).toEqual([...ids.map((id) => `1${id}`), ...ids.map((id) => `2${id}`)].sort());
});

test("a project that fills all places gives one up to another that waits, and goes on after it", async () => {
  const limits = { batchesUnderWayMax: 2, batchLinesUnderWayMax: 1, batchPollMs: 50 };
  const { client, gateway } = await open(policyOf(), limits);
  const other = clientOf(gateway, "sk-sy-key-of-other");
  before = async (text) => {
    if (text.startsWith("acme")) await new Promise((resolve) => setTimeout(resolve, 25));
  };
  const many = (name: string) => Array.from({ length: 300 }, (_, at) => line(`${name}-${at}`));
  const own = [await create(client, many("acme-1")), await create(client, many("acme-2"))];
  for (const { id } of own) {
    await expect.poll(async () => (await client.batches.retrieve(id)).status).toBe("in_progress");
  }
  const theirs = await create(other, [line("other-1"), line("other-2")]);
  expect((await untilOver(other, theirs.id)).request_counts?.completed).toBe(2);
  for (const { id } of own) {
    expect((await client.batches.retrieve(id)).status).toBe("in_progress");
  }
  before = () => {};
  for (const { id } of own) {
    expect((await untilOver(client, id)).request_counts).toMatchObject({ completed: 300 });
  }
  const asked = emulator.requests.map(({ body }) => textOf(body));
  expect(new Set(asked).size).toBe(asked.length);
});

test("where each project has one place, whoever had its turn longest makes room", async () => {
  const limits = {
    ...{ batchesUnderWayMax: 1, batchLinesUnderWayMax: 1, batchPollMs: 50 },
    batchTurnMs: 60_000,
  };
  const { client, gateway } = await open(policyOf(), limits);
  const other = clientOf(gateway, "sk-sy-key-of-other");
  before = async (text) => {
    if (text.startsWith("acme")) await new Promise((resolve) => setTimeout(resolve, 25));
  };
  const lines = Array.from({ length: 200 }, (_, at) => line(`acme-${at}`));
  const own = await create(client, lines);
  await expect.poll(() => emulator.requests.length).toBeGreaterThan(0);
  const theirs = await create(other, [line("other-1")]);
  const before5 = emulator.requests.length + 5;
  await expect.poll(() => emulator.requests.length).toBeGreaterThan(before5);
  expect((await other.batches.retrieve(theirs.id)).status).toBe("validating");
  nowMs += 60_000;
  expect((await untilOver(other, theirs.id)).status).toBe("completed");
  expect((await client.batches.retrieve(own.id)).status).toBe("in_progress");
  before = () => {};
  expect((await untilOver(client, own.id)).request_counts).toMatchObject({ completed: 200 });
});

test("a gateway that lost its lease keeps nothing more of the batch", async () => {
  const { client } = await open(policyOf(), { batchLinesUnderWayMax: 1, batchLeaseMs: 60_000 });
  before = async (text) => {
    if (text !== "b") return;
    await database.sql`update gateway.batches set lease_owner = 'another', lease_until = now() + interval '1 hour'`;
  };
  const batch = await create(
    client,
    ["a", "b", "c"].map((id) => line(id)),
  );
  await expect.poll(() => emulator.requests.length).toBe(2);
  await opened[0]?.stop();
  opened.splice(0);
  const rows =
    await database.sql`select line from gateway.batch_results where batch_id = ${batch.id}`;
  expect(rows.map((row) => row.line)).toEqual([1]);
  expect(emulator.requests).toHaveLength(2);
});

test("a gateway that hears nothing of the database lets go of its lines when its lease is over", async () => {
  const { pool, lease, parts } = await claimed({ batchLeaseMs: 90 });
  const ask = async ({ signal }: Request) => {
    const all = Array.from({ length: pool.options.max }, () => pool.reserve());
    const held = await Promise.all(all);
    // The lease may be over before all are held.
    if (!signal.aborted) await once(signal, "abort");
    for (const one of held) one.release();
    return new Response("{}", { status: 499 });
  };
  await new BatchWork(lease, { ...parts, ask }).run();
  const [row] = await pool`
    select line from gateway.batch_results where batch_id = ${lease.batch.id}`;
  expect(row).toBeUndefined();
});

/** A batch of one line, taken to be worked on with no gateway around. */
async function claimed(more: Partial<GatewayLimits> = {}) {
  const pool = database.connect();
  pools.push(pool);
  const now = () => nowMs;
  const limits = { ...defaultLimits, ...more };
  const files = new FileStore({ sql: pool, now, limits });
  const draft = await files.begin("proj_a");
  await draft.write(Readable.from([Buffer.from(line("a"))]));
  const facts = { purpose: "batch", filename: "a.jsonl", expiresAfter: undefined } as const;
  const { id: inputFileId } = await draft.publish(facts);
  const created = await new BatchStore({ sql: pool, files, now, limits }).create({
    ...{ projectId: "proj_a", keyId: newId("key"), endpoint, inputFileId, metadata: undefined },
    ...{ completionWindow: "24h", windowMs: 86_400_000, outputExpiresAfter: undefined },
    ...{ tags: undefined, task: undefined },
  });
  const lease = await BatchLease.claim({ sql: pool, now, limits });
  if (!lease) throw new Error("the batch is nobody's");
  expect(lease.batch.id).toBe(created.id);
  const logger = pino({ level: "silent" });
  return {
    pool,
    lease,
    parts: { files, limits, logger, onLine: () => {}, now, random: () => 0 },
  };
}
