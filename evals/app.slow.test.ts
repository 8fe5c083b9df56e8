import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { EvalRun } from "../sdk/protocol/admin.ts";
import type { Adapter, Model } from "../sdk/protocol/catalog.ts";
import { HubError, toErrorResponse } from "../sdk/protocol/errors.ts";
import type { Dataset, EvalAnswer } from "../sdk/protocol/evals.ts";
import { adapterId, newId, projectId, sha256 } from "../sdk/protocol/ids.ts";
import { openTestDatabase, type TestDatabase } from "../test/support/database.ts";
import {
  type Asked,
  gatewayDouble,
  type Listening,
  type RegistryState,
  type Reply,
  registryDouble,
} from "../test/support/doubles.ts";
import type { Limits } from "./config.ts";
import { type Evals, openEvals } from "./open.ts";
import { wilsonInterval } from "./statistics.ts";

const ours = projectId.parse(newId("proj", 1));
const theirs = projectId.parse(newId("proj", 2));
const digestOne = sha256.parse("1".repeat(64));
const digestTwo = sha256.parse("2".repeat(64));
const other = sha256.parse("f".repeat(64));

let database: TestDatabase;
/** Moves on with every look, so that no two things happen at one time. */
let clock = Date.UTC(2026, 10, 21);
const pools: postgres.Sql[] = [];
let folder: string;
let state: RegistryState;
let registry: Listening;
let gateway: Listening & { asked: Asked[] };
let evals: Evals;
let reply: (asked: Asked, signal: AbortSignal) => Reply | Promise<Reply>;

beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-evals-"));
  state = {
    keys: {
      "key-ours": { keyId: "key_ours", role: "project", projectId: ours },
      "key-theirs": { keyId: "key_theirs", role: "project", projectId: theirs },
      "key-admin": { keyId: "key_admin", role: "admin" },
    },
    models: [baseModel("tiny")],
    adapters: [sorterAdapter()],
    measurements: [],
  };
  reply = rightAnswers;
  registry = await registryDouble(state);
  gateway = await gatewayDouble((asked, signal) => reply(asked, signal));
  evals = await open();
});

afterEach(async () => {
  await evals.close();
  await gateway.close();
  await registry.close();
  await Promise.all(pools.splice(0).map((pool) => pool.end({ timeout: 1 })));
  await database.sql`truncate evals.datasets, evals.runs, evals.candidates, evals.answers`;
  await rm(folder, { recursive: true, force: true });
});

test("the same bytes are one dataset, pinned by their digest, and are listed for their project alone", async () => {
  const first = await push(rows(3));
  expect(first.status).toBe(201);
  const pushed = (await first.json()) as Dataset;
  expect(pushed).toMatchObject({
    name: "questions",
    rows: 3,
    projectId: ours,
    createdBy: "key_ours",
  });
  expect((await push(rows(3))).status).toBe(200);

  expect(await get(`/api/datasets/${pushed.sha256}`)).toEqual(pushed);
  expect(await get("/api/datasets")).toMatchObject({ data: [pushed], has_more: false });
  expect(await get("/api/datasets", "key-admin")).toMatchObject({ data: [pushed] });
  expect(await get("/api/datasets", "key-theirs")).toMatchObject({ data: [] });
  expect(await get(`/api/datasets/${pushed.sha256}`, "key-theirs")).toMatchObject({
    error: { code: "not_found" },
  });
});

test("lists come in pages, newest first, also where two projects pushed the same bytes", async () => {
  for (const n of [1, 2, 3]) await push(rows(n));
  for (const n of [1, 2]) await push(rows(n), "key-theirs");
  const seen: unknown[] = [];
  let after = "";
  for (let pages = 1; ; pages++) {
    const page = await get(`/api/datasets?limit=2${after}`, "key-admin");
    seen.push(...(page.data as Dataset[]).map((it) => [it.projectId, it.rows]));
    after = `&after=${page.last_id}`;
    if (page.has_more === false) {
      expect(pages).toBe(3);
      break;
    }
  }
  expect(seen).toEqual([
    [theirs, 2],
    [theirs, 1],
    [ours, 3],
    [ours, 2],
    [ours, 1],
  ]);
});

test("a refused line is told by its number, and nothing is kept", async () => {
  const response = await push(`${rows(2)}\n{"input":`);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    error: { code: "invalid_dataset", message: expect.stringContaining("Line 3") },
  });
  expect(await get("/api/datasets")).toMatchObject({ data: [] });
});

test("a dataset over its bound is refused", async () => {
  await reopen({ datasetBytesMax: 100 });
  expect((await push(rows(9))).status).toBe(413);
});

test("without a key, with a wrong key and for an admin without a project, the reason is told", async () => {
  const without = await evals.app.request("/api/datasets");
  expect([without.status, await without.json()]).toMatchObject([
    401,
    { error: { code: "missing_api_key" } },
  ]);
  expect(await get("/api/datasets", "wrong")).toMatchObject({ error: { code: "invalid_api_key" } });
  const admin = await push(rows(1), "key-admin");
  expect(await admin.json()).toMatchObject({
    error: { code: "missing_required_parameter", param: "projectId" },
  });
  expect((await push(rows(1), "key-admin", `&projectId=${theirs}`)).status).toBe(201);
  expect((await push(rows(1), "key-ours", `&projectId=${theirs}`)).status).toBe(404);
});

test("a run asks every candidate every row as the caller and tells scores, costs and the proved adapter", async () => {
  reply = (asked) =>
    asked.model === "tiny"
      ? { text: "wrong" }
      : {
          text: numberIn(asked) === 3 ? "no" : answerTo(asked),
          headers: adapterHeaders(digestTwo),
        };
  const run = await runToEnd({ candidates: ["tiny", "tiny:sorter@champion"] }, rows(8));

  expect(run).toMatchObject({
    status: "done",
    rows: 8,
    answered: 16,
    projectId: ours,
    task: "sorting",
  });
  const interval = wilsonInterval(7, 8);
  expect(run.candidates[1]).toMatchObject({
    candidate: "tiny:sorter@champion",
    model: "tiny:sorter@2",
    adapterDigest: digestTwo,
    n: 8,
    correct: 7,
    errored: 0,
    score: 7 / 8,
    lower: interval.lower,
    upper: interval.upper,
    totalCostUsd: "0.0000012",
    meanCostUsd: "0.00000015",
    unpriced: 0,
    meanInputTokens: 10,
    meanOutputTokens: 4,
  });
  expect(run.candidates[0]).toMatchObject({
    candidate: "tiny",
    model: "tiny",
    correct: 0,
    score: 0,
    unpriced: 8,
  });
  expect(run.candidates[0]).not.toHaveProperty("totalCostUsd");

  expect(gateway.asked).toHaveLength(16);
  for (const { key, headers, body } of gateway.asked) {
    expect(key).toBe("key-ours");
    expect(headers.get("x-switchyard-task")).toBe("sorting");
    expect(headers.get("x-switchyard-tags")).toBe(`eval=${run.id}`);
    expect(body).toMatchObject({ temperature: 0, max_tokens: 256 });
  }
  expect(new Set(gateway.asked.map(({ model }) => model))).toEqual(
    new Set(["tiny", "tiny:sorter@2"]),
  );
});

test("a finished run hands the registry one measurement for each candidate that was proved", async () => {
  const run = await runToEnd({ candidates: ["tiny:sorter", "auto"] }, rows(4));
  expect(state.measurements).toHaveLength(1);
  expect(state.measurements[0]).toMatchObject({
    runId: run.id,
    projectId: ours,
    task: "sorting",
    datasetDigest: run.dataset,
    scorer: "exact",
    model: "tiny:sorter@2",
    adapterDigest: digestTwo,
    n: 4,
    score: 1,
    meanCostUsd: "0.00000015",
  });
});

test("an answer from other weights than the registry's fails the candidate, and the others go on", async () => {
  reply = (asked) => ({
    text: answerTo(asked),
    headers: adapterHeaders(asked.model === "tiny" ? undefined : other),
  });
  const run = await runToEnd({ candidates: ["tiny:sorter@1", "tiny"], concurrency: 1 }, rows(6));
  expect(run.status).toBe("done");
  expect(run.candidates[0]?.error).toContain("adapter_not_applied");
  expect(run.candidates[0]).toMatchObject({ n: 0, errored: 1 });
  expect(run.candidates[1]).toMatchObject({ n: 6, correct: 6 });
  expect(state.measurements.map(({ model }) => model)).toEqual(["tiny"]);
  const failed = (await get(`/api/evals/runs/${run.id}/results?failed=true`)).data as EvalAnswer[];
  expect(failed).toMatchObject([{ candidate: "tiny:sorter@1", row: 0, adapterDigest: other }]);
  expect(failed[0]).not.toHaveProperty("correct");
});

test("a base that is answered by an adapter fails as well", async () => {
  reply = (asked) => ({ text: answerTo(asked), headers: adapterHeaders(digestOne) });
  const run = await runToEnd({ candidates: ["tiny"] }, rows(2));
  expect(run.status).toBe("failed");
  expect(run.error).toContain("adapter_not_applied");
  expect(state.measurements).toEqual([]);
});

test("rate limits are waited out as retry-after says, and no row is lost", async () => {
  const refused = new Set<number>();
  reply = (asked) => {
    if (refused.has(numberIn(asked))) return rightAnswers(asked);
    refused.add(numberIn(asked));
    return toErrorResponse(new HubError("rate_limit_exceeded", "Slow down.", { retryAfterMs: 5 }));
  };
  const run = await runToEnd({ candidates: ["tiny:sorter"] }, rows(5));
  expect(run.candidates[0]).toMatchObject({ n: 5, correct: 5, errored: 0 });
  expect(gateway.asked).toHaveLength(10);
});

test("rows that keep failing are told as errored and widen the interval, never wrong and never dropped", async () => {
  reply = (asked) => {
    if (numberIn(asked) === 1) return toErrorResponse(new HubError("upstream_error", "Broken."));
    if (numberIn(asked) === 2)
      return toErrorResponse(new HubError("context_length_exceeded", "Too long."));
    if (numberIn(asked) === 3) return { text: null, headers: adapterHeaders(digestTwo) };
    return rightAnswers(asked);
  };
  const run = await runToEnd({ candidates: ["tiny:sorter"] }, rows(10));
  expect(run.candidates[0]).toMatchObject({ n: 7, correct: 7, errored: 3, score: 1 });
  expect(run.candidates[0]?.lower).toBe(wilsonInterval(7, 10).lower);
  const failed = (await get(`/api/evals/runs/${run.id}/results?failed=true`)).data as EvalAnswer[];
  expect(failed.map(({ row, error }) => [row, error])).toEqual([
    [1, "upstream_error: Broken. (3 attempts)"],
    [2, "context_length_exceeded: Too long."],
    [3, "the answer has no text (finish_reason stop)"],
  ]);
});

test("a candidate that no row can reach is given up after its first answers", async () => {
  reply = (asked) =>
    asked.model === "absent"
      ? toErrorResponse(new HubError("model_not_found", "There is no model 'absent'."))
      : rightAnswers(asked);
  const run = await runToEnd({ candidates: ["absent", "tiny"], concurrency: 1 }, rows(20));
  expect(run.candidates[0]).toMatchObject({
    n: 0,
    errored: 0,
    error: "model_not_found: There is no model 'absent'.",
  });
  expect(gateway.asked.filter(({ model }) => model === "absent")).toHaveLength(1);
});

test.each([
  ["an unknown adapter", { candidates: ["tiny:absent"] }, "model_not_found", "candidates[0]"],
  [
    "an unknown version",
    { candidates: ["tiny", "tiny:sorter@9"] },
    "model_not_found",
    "candidates[1]",
  ],
  ["no model name", { candidates: ["a:b:c"] }, "invalid_value", "model"],
  [
    "a pattern that is none",
    { scorer: { type: "regex", pattern: "(" } },
    "invalid_value",
    "scorer.pattern",
  ],
  ["references that are not JSON", { scorer: { type: "json" } }, "invalid_dataset", "scorer"],
  ["a dataset that is not there", { dataset: other }, "not_found", "dataset"],
  ["an unknown scorer", { scorer: { type: "taste" } }, "invalid_value", "scorer.type"],
])("%s is refused before anything is asked", async (_, change, code, param) => {
  const response = await createRun({ candidates: ["tiny"], ...change }, rows(1));
  expect(await response.json()).toMatchObject({ error: { code, param } });
  expect(await get("/api/evals/runs")).toMatchObject({ data: [] });
  expect(gateway.asked).toEqual([]);
});

test("an admin's key starts no run, and another project sees none of it", async () => {
  const run = await runToEnd({ candidates: ["tiny"] }, rows(1));
  const admin = await createRun({ candidates: ["tiny"] }, rows(1), "key-admin");
  expect([admin.status, await admin.json()]).toMatchObject([
    403,
    { error: { code: "permission_denied" } },
  ]);
  expect(await get(`/api/evals/runs/${run.id}`, "key-admin")).toEqual(run);
  for (const path of ["", "/results"]) {
    expect(await get(`/api/evals/runs/${run.id}${path}`, "key-theirs")).toMatchObject({
      error: { code: "not_found" },
    });
  }
  expect(await get("/api/evals/runs", "key-theirs")).toMatchObject({ data: [] });
  for (const verb of ["cancel", "resume"]) {
    expect(await post(`/api/evals/runs/${run.id}/${verb}`, "key-theirs")).toMatchObject({
      error: { code: "not_found" },
    });
  }
});

test("a cancelled run keeps its answers, and a resumed one asks only the rows that are missing", async () => {
  const gate = holdAfter(3);
  const { id } = await start({ candidates: ["tiny:sorter"], concurrency: 2 }, rows(6));
  await gate.reached;
  const cancelled = (await post(`/api/evals/runs/${id}/cancel`)) as EvalRun;
  expect(cancelled).toMatchObject({ status: "failed", error: "cancelled", rows: 6, answered: 3 });

  reply = rightAnswers;
  gateway.asked.length = 0;
  await post(`/api/evals/runs/${id}/resume`);
  const run = await ended(id);
  expect(run).toMatchObject({ status: "done", answered: 6 });
  expect(run).not.toHaveProperty("error");
  expect(gateway.asked.map(numberIn).sort()).toEqual([3, 4, 5]);
  expect(state.measurements).toHaveLength(1);
  expect(await post(`/api/evals/runs/${id}/resume`)).toMatchObject({
    error: { code: "invalid_value" },
  });
});

test("a run cut off by a restart is told as interrupted and can be resumed by the new process", async () => {
  const gate = holdAfter(2);
  const { id } = await start({ candidates: ["tiny:sorter"], concurrency: 1 }, rows(5));
  await gate.reached;
  // The first process is left hanging, as after a kill: only the database and the folder carry over.
  const killed = evals;
  evals = await open();
  expect(await get(`/api/evals/runs/${id}`)).toMatchObject({
    status: "failed",
    error: expect.stringContaining("interrupted"),
    answered: 2,
  });
  reply = rightAnswers;
  await post(`/api/evals/runs/${id}/resume`);
  expect(await ended(id)).toMatchObject({ status: "done", answered: 5 });
  await killed.close();
  expect(await get(`/api/evals/runs/${id}`)).toMatchObject({ status: "done" });
});

test("a registry that takes no measurements fails the run, and resuming hands them in without asking again", async () => {
  state.measurementsBroken = new HubError("database_unavailable", "Down.");
  const failed = await runToEnd({ candidates: ["tiny"] }, rows(3));
  expect(failed).toMatchObject({
    status: "failed",
    error: "the measurements were not recorded: database_unavailable: Down.",
  });
  state.measurementsBroken = undefined;
  await post(`/api/evals/runs/${failed.id}/resume`);
  expect(await ended(failed.id)).toMatchObject({ status: "done" });
  expect(state.measurements).toHaveLength(1);
  expect(gateway.asked).toHaveLength(3);
});

test("a registry that cannot be reached is told as such, and worth another try", async () => {
  await registry.close();
  const response = await evals.app.request("/api/datasets", { headers: bearer("key-ours") });
  expect([response.status, response.headers.get("x-should-retry")]).toEqual([503, "true"]);
});

test("a project runs no more evals at a time than its limit", async () => {
  await reopen({ activeRunsPerProjectMax: 1 });
  const gate = holdAfter(0);
  const { id } = await start({ candidates: ["tiny"] }, rows(1));
  await gate.reached;
  const second = await createRun({ candidates: ["tiny"] }, rows(1));
  expect([second.status, await second.json()]).toMatchObject([
    429,
    { error: { code: "rate_limit_exceeded" } },
  ]);
  await post(`/api/evals/runs/${id}/cancel`);
  expect((await createRun({ candidates: ["tiny"] }, rows(1))).status).toBe(201);
});

test("of runs that are asked for at one time no more start than the limit", async () => {
  await reopen({ activeRunsPerProjectMax: 2 });
  reply = (_, signal) =>
    new Promise((resolve) => signal.addEventListener("abort", () => resolve({ text: null })));
  await push(rows(1));
  const asked = Array.from({ length: 6 }, () => createRun({ candidates: ["tiny"] }, rows(1)));
  const statuses = (await Promise.all(asked)).map(({ status }) => status);
  expect(statuses.filter((status) => status === 201)).toHaveLength(2);
  expect(statuses.filter((status) => status === 429)).toHaveLength(4);
});

test("an answer with a character that no database keeps is judged and kept without it", async () => {
  reply = (asked) => ({ text: numberIn(asked) === 0 ? "a\0" : "a1" });
  const run = await runToEnd({ candidates: ["tiny"] }, rows(2));
  expect(run).toMatchObject({ status: "done", candidates: [{ n: 2, correct: 1, errored: 0 }] });
  const { data } = await get(`/api/evals/runs/${run.id}/results`);
  expect(data).toMatchObject([{ answer: "a\ufffd", correct: false }, { answer: "a1" }]);
});

test("candidates are compared row by row with the first, on the rows that both were judged on", async () => {
  reply = (asked) => {
    const row = numberIn(asked);
    // Row 0 has no answer of the first, row 1 is the first's alone, all others are the second's.
    if (asked.model === "tiny") return { text: row === 0 ? null : row === 1 ? "a1" : "?" };
    return { text: row === 1 ? "?" : answerTo(asked), headers: adapterHeaders(digestOne) };
  };
  const run = await runToEnd({ candidates: ["tiny", "tiny:sorter@1"] }, rows(6));
  expect(run.candidates[0]).not.toHaveProperty("versusFirst");
  expect(run.candidates[1]?.versusFirst).toMatchObject({
    n: 5,
    gained: 4,
    lost: 1,
    difference: 0.6,
  });
});

test("what a run cost has the answers in it that were asked anew", async () => {
  const headers = { "x-switchyard-cost-usd": "0.25" };
  const paid = (asked: Asked) => ({ text: answerTo(asked), headers });
  reply = (asked) => (numberIn(asked) === 0 ? { text: null, headers } : paid(asked));
  state.measurementsBroken = new HubError("permission_denied", "not now");
  const first = await runToEnd({ candidates: ["tiny"] }, rows(2));
  expect(first.candidates[0]).toMatchObject({ n: 1, errored: 1, totalCostUsd: "0.5" });
  reply = paid;
  delete state.measurementsBroken;
  await post(`/api/evals/runs/${first.id}/resume`);
  const run = await ended(first.id);
  expect(run.candidates[0]).toMatchObject({ n: 2, errored: 0, totalCostUsd: "0.75" });
});

test("results come in pages by candidate and row", async () => {
  const { id } = await runToEnd({ candidates: ["tiny:sorter", "tiny:sorter@1"] }, rows(3));
  const first = await get(`/api/evals/runs/${id}/results?limit=4`);
  expect((first.data as EvalAnswer[]).map((one) => one.id)).toEqual(["0.0", "0.1", "0.2", "1.0"]);
  expect(first).toMatchObject({ has_more: true, last_id: "1.0" });
  const second = await get(`/api/evals/runs/${id}/results?limit=4&after=1.0`);
  expect((second.data as EvalAnswer[]).map((one) => one.id)).toEqual(["1.1", "1.2"]);
  const one = await get(
    `/api/evals/runs/${id}/results?candidate=${encodeURIComponent("tiny:sorter@1")}&limit=1`,
  );
  expect(one.data).toMatchObject([
    {
      id: "1.0",
      row: 0,
      reference: "a0",
      answer: "a0",
      correct: true,
      adapterDigest: digestOne,
      model: "tiny:sorter@1",
    },
  ]);
});

function open(limits: Partial<Limits> = {}): Promise<Evals> {
  const sql = database.connect();
  pools.push(sql);
  return openEvals({
    now: () => clock++,
    sql,
    datasetFolder: folder,
    gateway,
    registry,
    log: { error: () => {} },
    limits: { attemptsMax: 3, retryDelayMs: 1, ...limits },
  });
}

async function reopen(limits: Partial<Limits>): Promise<void> {
  await evals.close();
  evals = await open(limits);
}

type Json = Record<string, unknown>;

async function get(path: string, key = "key-ours"): Promise<Json> {
  return (await evals.app.request(path, { headers: bearer(key) })).json() as Promise<Json>;
}

async function post(path: string, key = "key-ours"): Promise<Json> {
  return (
    await evals.app.request(path, { method: "POST", headers: bearer(key) })
  ).json() as Promise<Json>;
}

async function push(body: string, key = "key-ours", more = ""): Promise<Response> {
  return evals.app.request(`/api/datasets?name=questions${more}`, {
    method: "POST",
    body,
    headers: bearer(key),
  });
}

async function createRun(change: Json, body: string, key = "key-ours"): Promise<Response> {
  const dataset = (await (await push(body)).json()) as Dataset;
  const request = {
    task: "sorting",
    dataset: dataset.sha256,
    scorer: { type: "exact" },
    ...change,
  };
  return evals.app.request("/api/evals/runs", {
    method: "POST",
    body: JSON.stringify(request),
    headers: { ...bearer(key), "content-type": "application/json" },
  });
}

async function start(change: Json, body: string): Promise<EvalRun> {
  const response = await createRun(change, body);
  const run = (await response.json()) as EvalRun;
  expect([response.status, run.status]).toEqual([201, "running"]);
  return run;
}

async function runToEnd(change: Json, body: string): Promise<EvalRun> {
  return ended((await start(change, body)).id);
}

function ended(id: string): Promise<EvalRun> {
  return until(async () => {
    const run = (await get(`/api/evals/runs/${id}`)) as EvalRun;
    return run.status === "running" ? undefined : run;
  });
}

async function until<T>(
  look: () => T | undefined | Promise<T | undefined>,
): Promise<NonNullable<T>> {
  for (;;) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Lets so many rows through; the following wait until their client leaves. */
function holdAfter(count: number): { reached: Promise<void> } {
  let let_through = count;
  let reach = () => {};
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  reply = async (asked, signal) => {
    if (let_through-- > 0) return rightAnswers(asked);
    // The answers that went out before have to be written down first.
    await until(async () => {
      const runs = (await get("/api/evals/runs")).data as EvalRun[];
      return runs[0]?.answered === count;
    });
    reach();
    return new Promise((resolve) =>
      signal.addEventListener("abort", () => resolve({ text: null }), { once: true }),
    );
  };
  return { reached };
}

/** Row n asks "q<n>" and wants "a<n>". */
function rows(count: number): string {
  return Array.from({ length: count }, (_, n) =>
    JSON.stringify({ input: `q${n}`, ideal: `a${n}` }),
  ).join("\n");
}

function numberIn({ question }: Asked): number {
  return Number(question.slice(1));
}

function answerTo(asked: Asked): string {
  return `a${numberIn(asked)}`;
}

function rightAnswers(asked: Asked): Reply {
  const digest = { "tiny:sorter@1": digestOne, "tiny:sorter@2": digestTwo }[asked.model];
  return {
    text: answerTo(asked),
    headers: { ...adapterHeaders(digest), "x-switchyard-model": asked.model },
  };
}

function adapterHeaders(digest: string | undefined): Record<string, string> {
  return digest === undefined
    ? {}
    : { "x-switchyard-adapter": digest, "x-switchyard-cost-usd": "0.00000015" };
}

function bearer(key: string): Record<string, string> {
  return { authorization: `Bearer ${key}` };
}

function baseModel(id: string): Model {
  return {
    id,
    upstream: "embedded",
    upstreamModel: id,
    ownedBy: "switchyard",
    createdAt: "2026-01-01T00:00:00Z",
  };
}

function sorterAdapter(): Adapter {
  const version = (number: number, digest: string) => ({
    version: number,
    digest: sha256.parse(digest),
    configSha256: sha256.parse("a".repeat(64)),
    weightsSha256: sha256.parse("b".repeat(64)),
    sizeBytes: 1,
    rank: 8,
    targetModules: ["q_proj"],
    baseDigest: sha256.parse("c".repeat(64)),
    lineage: {},
    createdBy: "key_ours",
    createdAt: "2026-01-01T00:00:00Z",
  });
  return {
    id: adapterId.parse(newId("adp", 1)),
    base: "tiny",
    name: "sorter",
    projectId: ours,
    shared: false,
    versions: [version(1, digestOne), version(2, digestTwo)],
    aliases: { champion: 2 },
    createdAt: "2026-01-01T00:00:00Z",
  };
}
