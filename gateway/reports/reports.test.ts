import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { meteringLimits } from "../metering/config.ts";
import { openMetering } from "../metering/metering.ts";
import {
  testPrices,
  testPrincipal,
  testReserve,
  testSettlement,
  withFolder,
} from "../metering/testing.ts";
import type { Settlement } from "../metering/types.ts";
import { createReports } from "./reports.ts";

const prices = testPrices({
  "gpt/input": "0.000001",
  "gpt/cache_read": "0.0000001",
  "gpt/output": "0.000004",
  "gpt/input/cached_response": "0.0000001",
  "small/input": "0.0000001",
  "small/output": "0.0000004",
});
const search = testPrincipal({ project: { name: "search", team: "web" }, key: { name: "prod" } });
const mail = testPrincipal({
  project: { name: "=mail", costCentre: "4711", tags: { product: "inbox", job: "ours" } },
  key: {
    costCentre: "4712",
    tags: { product: "outbox" },
    ownerId: "user_01kap3v5eh4s7m9x2c8b6n0wqt",
  },
});
const day = (date: string) => Date.parse(`${date}T09:30:00Z`);
const nowMs = day("2026-11-21");
const seconds = (date: string) => Date.parse(date) / 1000;

let database: TestDatabase;
let reports: ReturnType<typeof createReports>;
let spent = 0n;
/** Projects whose budgets were asked for. */
const budgetsOf: (string | undefined)[] = [];

beforeAll(async () => {
  database = await openTestDatabase();
  reports = createReports({
    sql: database.sql,
    now: () => nowMs,
    ownerName: (id) => (id === mail.key.ownerId ? "ada@example.com" : undefined),
    async budgets({ projectId }) {
      budgetsOf.push(projectId);
      return { data: [], last: undefined };
    },
    authenticate(authorization) {
      if (authorization === "Bearer admin") return { type: "admin" };
      if (authorization === "Bearer search") return { type: "project", project: search.project };
      throw new HubError("missing_api_key", "No key.");
    },
  });
  await settleAll([
    [
      day("2026-11-18"),
      search,
      { usage: { input: 800, cache_read: 200, output: 100 }, task: "faq" },
    ],
    [
      day("2026-11-18"),
      mail,
      { usage: { input: 50, output: 10 }, tags: { job: "theirs", night: "@nightly" } },
    ],
    [
      day("2026-11-20"),
      search,
      {
        answered: { model: "small", adapter: "sql", adapterVersion: 3, upstream: "embedded" },
        usage: { input: 1000, output: 100 },
        defaultModel: { model: "gpt" },
        decision: { chosen: "small:sql@3" },
        ttftMs: 12.5,
      },
    ],
    [day("2026-11-20"), search, { answered: { model: "mystery", upstream: "other" } }],
    [day("2026-11-20"), search, failed],
    [
      day("2026-11-16"),
      search,
      {
        usage: { input: 0, output: 0 },
        responseCache: { usage: { input: 1000, output: 50 }, estimated: false },
      },
    ],
    [
      day("2026-11-16"),
      search,
      {
        answered: { model: "mystery", upstream: "other" },
        usage: { input: 0, output: 0 },
        responseCache: { usage: { input: 10, output: 5 }, estimated: false },
      },
    ],
  ]);
});
afterAll(() => database.close());

test("costs come in OpenAI's shape, empty days included, as the official client reads them", async () => {
  const page = await client().admin.organization.usage.costs({
    start_time: seconds("2026-11-18"),
    end_time: seconds("2026-11-21"),
    group_by: ["line_item"],
  });
  expect(page).toMatchObject({ object: "page", has_more: false, next_page: null });
  expect(page.data.map((bucket) => bucket.start_time)).toEqual([
    seconds("2026-11-18"),
    seconds("2026-11-19"),
    seconds("2026-11-20"),
  ]);
  expect(page.data[0]?.results).toEqual([
    costLine("gpt, input", 0.00085, 850),
    costLine("gpt, output", 0.00044, 110),
    costLine("gpt, cached input", 0.00002, 200),
  ]);
  expect(page.data[1]?.results).toEqual([]);
  expect(page.data[2]?.results).toEqual([
    costLine("small:sql, input", 0.0001, 1000),
    costLine("small:sql, output", 0.00004, 100),
  ]);
});

test("ungrouped keys are null, and every way to write a list is read", async () => {
  const [bucket] = (
    await getJson(`/v1/organization/costs?start_time=${seconds("2026-11-18")}&limit=1`)
  ).data;
  expect(bucket.results).toEqual([
    expect.objectContaining({
      amount: { value: 0.00131, currency: "usd" },
      line_item: null,
      project_id: null,
      api_key_id: null,
      quantity: null,
    }),
  ]);
  const grouped = [
    "group_by=project_id&group_by=model",
    "group_by[]=project_id&group_by[]=model",
    "group_by%5B0%5D=project_id&group_by%5B1%5D=model",
    "group_by=project_id,model",
  ];
  const pages = await Promise.all(
    grouped.map((query) =>
      getJson(`/v1/organization/usage/completions?start_time=${seconds("2026-11-20")}&${query}`),
    ),
  );
  for (const page of pages) expect(page).toEqual(pages[0]);
  expect(pages[0].data[0].results).toEqual([
    expect.objectContaining({
      object: "organization.usage.completions.result",
      project_id: search.project.id,
      model: "mystery",
      num_model_requests: 1,
    }),
    expect.objectContaining({
      model: "small:sql",
      input_tokens: 1000,
      input_cached_tokens: 0,
      output_tokens: 100,
      user_id: null,
      batch: null,
    }),
  ]);
});

test("input tokens contain the cached ones, and filters hold", async () => {
  const [bucket] = (
    await getJson(
      `/v1/organization/usage/completions?start_time=${seconds("2026-11-18")}&end_time=${seconds("2026-11-19")}` +
        `&models=gpt&project_ids[]=${search.project.id}`,
    )
  ).data;
  expect(bucket.results).toEqual([
    expect.objectContaining({
      input_tokens: 1000,
      input_cached_tokens: 200,
      input_uncached_tokens: 800,
      output_tokens: 100,
      num_model_requests: 1,
    }),
  ]);
});

test("pages follow one another without gap or overlap", async () => {
  const all: number[] = [];
  let page: string | null = "";
  while (page !== null) {
    const answer = await getJson(
      `/v1/organization/usage/completions?start_time=${seconds("2026-11-20")}&bucket_width=1h&limit=7${page && `&page=${page}`}`,
    );
    expect(answer.has_more).toBe(answer.next_page !== null);
    all.push(...answer.data.map((bucket: { start_time: number }) => bucket.start_time));
    page = answer.next_page;
  }
  expect(all).toEqual(Array.from({ length: 34 }, (_, hour) => seconds("2026-11-20") + hour * 3600));
});

test("wrong queries are refused with the parameter's name", async () => {
  for (const [path, param] of [
    ["/v1/organization/costs", "start_time"],
    ["/v1/organization/costs?start_time=1&bucket_width=1h", "bucket_width"],
    ["/v1/organization/costs?start_time=1&limit=181", "limit"],
    ["/v1/organization/costs?start_time=1&group_by=colour", "group_by[0]"],
    ["/v1/organization/usage/completions?start_time=1&limit=32", "limit"],
    ["/v1/organization/usage/completions?start_time=1&page=nonsense", "page"],
    ["/v1/organization/usage/completions?start_time=9&end_time=8", "end_time"],
    ["/api/reports/costs?groupby=model", "groupby"],
    ["/api/reports/costs?from=yesterday", "from"],
    ["/api/requests?limit=1000", "limit"],
  ]) {
    const response = await get(path as string);
    expect(response.status, path).toBe(400);
    expect(JSON.parse(await response.text()).error.param, path).toBe(param);
  }
});

test("a group that does not exist is refused with those that do", async () => {
  const response = await get("/api/reports/costs?group_by=model,colour");
  const { error } = JSON.parse(await response.text());
  expect([response.status, error.param]).toEqual([400, "group_by[1]"]);
  for (const group of ["model", "adapter", "cost_centre", "hour", "tag:NAME"])
    expect(error.message).toContain(group);
  const day = await get("/api/reports/costs?from=yesterday");
  expect(await day.text()).toContain("2026-11-01T09:00:00Z");
});

test("a report groups by anything, adds up exactly, and counts unpriced requests by themselves", async () => {
  for (const group of [
    "model",
    "model,adapter",
    "project",
    "team",
    "key",
    "task",
    "tag:job",
    "day",
  ]) {
    const report = await getJson(`/api/reports/costs?from=2026-11-01&group_by=${group}`);
    let sum = 0n;
    let requests = 0;
    for (const row of report.data) {
      sum += parseUsd(row.cost_usd);
      requests += row.requests;
    }
    expect(formatUsd(sum), group).toBe(formatUsd(spent));
    expect(report.totals).toMatchObject({
      requests,
      unpriced_requests: 1,
      cost_usd: formatUsd(spent),
      tokens: { input: 1950, cache_read: 200, cache_write: null, output: 230, reasoning: null },
    });
  }
  const byAdapter = await getJson("/api/reports/costs?from=2026-11-20&group_by=model,adapter");
  expect(byAdapter.data[0]).toMatchObject({
    model: "small",
    adapter: "sql",
    requests: 1,
    cost_usd: "0.00014",
    saving: {
      estimate: true,
      requests: 1,
      cost_usd: "0.00014",
      default_model_cost_usd: "0.0014",
      saving_usd: "0.00126",
    },
  });
});

test("what the response cache answered is told by every group, with what it saved", async () => {
  const byModel = await getJson("/api/reports/costs?from=2026-11-16&to=2026-11-17&group_by=model");
  const cacheOf = (model: string) =>
    byModel.data.find((row: { model: string }) => row.model === model)?.response_cache;
  // 1,000 at $1 and 50 at $4 a million; a kept answer of this model costs $0.1 a million tokens read.
  expect(cacheOf("gpt")).toEqual({
    hits: 1,
    cost_usd: "0.0001",
    priced_hits: 1,
    uncached_cost_usd: "0.0012",
    saving_usd: "0.0011",
  });
  // Nobody knows what it would have cost, so nothing is said to be saved.
  expect(cacheOf("mystery")).toMatchObject({ hits: 1, priced_hits: 0, saving_usd: "0" });
  expect(byModel.totals.response_cache).toMatchObject({ hits: 2, saving_usd: "0.0011" });
  for (const group of ["team", "adapter", "key", "day", "route"]) {
    const report = await getJson(`/api/reports/costs?from=2026-11-16&group_by=${group}`);
    expect(
      report.data.reduce(
        (sum: number, row: { response_cache: { hits: number } }) => sum + row.response_cache.hits,
        0,
      ),
      group,
    ).toBe(2);
  }
  const hit = (await getJson("/api/requests?model=gpt")).data.at(-1);
  expect(hit.response_cache).toEqual({
    result: "hit",
    saved_usage: { input: 1000, output: 50 },
    uncached_cost_usd: "0.0012",
  });
});

test("cost centre, tags and owner of keys reach reports, and no request writes over them", async () => {
  const groups = "cost_centre,tag:product,tag:job,tag:night,owner";
  const query = `from=2026-11-18&to=2026-11-19&group_by=${groups}`;
  const report = await getJson(`/api/reports/costs?${query}`);
  const ours = report.data.find((row: { owner: string | null }) => row.owner !== null);
  expect(ours).toMatchObject({
    cost_centre: "4712",
    "tag:product": "outbox",
    "tag:job": "ours",
    "tag:night": "@nightly",
    owner: mail.key.ownerId,
    owner_name: "ada@example.com",
    requests: 1,
  });
  const csv = await (await get(`/api/reports/costs?${query}&format=csv`)).text();
  expect(csv.split("\r\n")[0]).toMatch(
    /^cost_centre,tag:product,tag:job,tag:night,owner,owner_name,requests,/,
  );
  expect(csv).toContain(
    "4712,outbox,ours,'@nightly,user_01kap3v5eh4s7m9x2c8b6n0wqt,ada@example.com,1,",
  );
  const own = await getJson(`/api/requests?owner=${mail.key.ownerId}&cost_centre=4712`);
  expect(own.data).toHaveLength(1);
  expect(own.data[0]).toMatchObject({ owner_id: mail.key.ownerId, cost_centre: "4712" });

  const start_time = seconds("2026-11-18");
  const usage = client().admin.organization.usage;
  const user_ids = [mail.key.ownerId ?? ""];
  const tokens = await usage.completions({ start_time, limit: 1, user_ids, group_by: ["user_id"] });
  expect(tokens.data[0]?.results).toMatchObject([{ user_id: user_ids[0], input_tokens: 50 }]);
  const costs = await usage.costs({ start_time, limit: 1, group_by: ["user_id"] });
  expect(costs.data[0]?.results).toContainEqual(
    expect.objectContaining({ user_id: mail.key.ownerId }),
  );
});

test("a project's key sees its own project alone", async () => {
  const report = await getJson("/api/reports/costs?from=2026-11-01&group_by=project", "search");
  expect(report.data.map((row: { project: string }) => row.project)).toEqual([search.project.id]);
  const listed = await getJson("/api/requests", "search");
  expect(listed.data).toHaveLength(6);
  const foreign = (await getJson(`/api/requests?project=${mail.project.id}`)).data[0].id;
  expect((await get(`/api/requests/${foreign}`, "search")).status).toBe(404);
  expect((await get("/v1/organization/costs?start_time=1", "search")).status).toBe(403);
  expect((await get("/api/requests", "nobody")).status).toBe(401);
});

test("budgets are told of one project or of all, and to a project's key of its own alone", async () => {
  const [own, others] = [search.project.id, mail.project.id];
  for (const [query, key] of [
    ["", "admin"],
    [`?project=${others}`, "admin"],
    ["", "search"],
    [`?project=${own}`, "search"],
    [`?project=${others}`, "search"],
  ]) {
    expect(await getJson(`/api/budgets${query}`, key)).toMatchObject({ data: [] });
  }
  expect(budgetsOf).toEqual([undefined, others, own, own]);
});

test("a spreadsheet gets numbers and text, never formulas", async () => {
  const response = await get(
    "/api/reports/costs?from=2026-11-18&to=2026-11-19&group_by=project,tag:night&format=csv",
  );
  expect(response.headers.get("content-type")).toBe("text/csv; charset=utf-8");
  const [header, first, second] = (await response.text()).split("\r\n");
  expect(header).toBe(
    "project,project_name,tag:night,requests,unpriced_requests,input_tokens,cache_read_tokens,cache_write_tokens," +
      "output_tokens,reasoning_tokens,input_audio_tokens,input_image_tokens,cache_read_audio_tokens," +
      "cache_read_image_tokens,output_audio_tokens,output_image_tokens,images,audio_ms,characters,cost_usd,currency,estimated_saving_requests," +
      "estimated_default_model_cost_usd,estimated_saving_usd,response_cache_hits,response_cache_cost_usd,response_cache_saving_usd",
  );
  expect(first).toBe(
    `${search.project.id},search,,1,0,800,200,,100,,,,,,,,,,,0.00122,usd,0,0,0,0,0,0`,
  );
  expect(second).toBe(
    `${mail.project.id},'=mail,'@nightly,1,0,50,,,10,,,,,,,,,,,0.00009,usd,0,0,0,0,0,0`,
  );
});

test("requests are listed newest first, page by page, and one is told with its decision", async () => {
  const first = await getJson("/api/requests?limit=3");
  expect(first).toMatchObject({ object: "list", has_more: true, last_id: first.data[2].id });
  const rest = await getJson(`/api/requests?limit=5&after=${first.last_id}`);
  expect(rest).toMatchObject({ has_more: false });
  const ids = [...first.data, ...rest.data].map(({ id }) => id);
  expect(ids).toHaveLength(7);
  expect(ids).toEqual([...ids].sort().reverse());

  const [{ id }] = (await getJson("/api/requests?adapter=sql")).data;
  expect(await getJson(`/api/requests/${id}`)).toMatchObject({
    id,
    model: "small",
    adapter: "sql",
    adapter_version: 3,
    cost_usd: "0.00014",
    pricing: "priced",
    ttft_ms: 12.5,
    decision: { chosen: "small:sql@3" },
    entries: [
      { meter: "input", quantity: 1000, amount_usd: "0.0001" },
      { meter: "output", quantity: 100, amount_usd: "0.00004" },
      { account: "accrual:embedded", amount_usd: "-0.00014" },
    ],
  });
  expect((await getJson("/api/requests?pricing=unpriced")).data).toMatchObject([
    { model: "mystery", cost_usd: null },
  ]);
});

test("what is no completion is counted in its own unit, as the official client reads it, and in no other", async () => {
  const atMs = day("2026-10-05");
  const asked = (format: Settlement["format"], usage: Settlement["usage"]): Case => [
    atMs,
    search,
    { ...(format && { format }), ...(usage && { usage }) },
  ];
  await settleAll([
    asked("openai-embeddings", { input: 70 }),
    asked("openai-embeddings", { input: 7 }),
    asked("openai-moderations", { input: 5 }),
    asked("openai-image-generations", { images: 2 }),
    asked("openai-image-edits", { images: 1, input: 40, output_image: 1000 }),
    asked("openai-speech", { characters: 321 }),
    asked("openai-transcriptions", { audio_ms: 61_400 }),
    asked("openai-translations", { audio_ms: 2_000 }),
    asked("openai-chat", { input: 3, output: 4 }),
    asked("anthropic-messages", { input: 30, output: 40 }),
  ]);
  const { usage } = client().admin.organization;
  const query = {
    start_time: seconds("2026-10-05"),
    end_time: seconds("2026-10-06"),
    group_by: ["model" as const],
    project_ids: [search.project.id],
  };
  const resultsOf = (page: { data: { results: unknown[] }[] }) => page.data[0]?.results;
  const whose = { project_id: null, user_id: null, api_key_id: null, model: "gpt" };
  const told = (kind: string, requests: number, more: object) => [
    {
      object: `organization.usage.${kind}.result`,
      num_model_requests: requests,
      ...whose,
      ...more,
    },
  ];
  expect(resultsOf(await usage.embeddings(query))).toEqual(
    told("embeddings", 2, { input_tokens: 77 }),
  );
  expect(resultsOf(await usage.moderations(query))).toEqual(
    told("moderations", 1, { input_tokens: 5 }),
  );
  expect(resultsOf(await usage.audioSpeeches(query))).toEqual(
    told("audio_speeches", 1, { characters: 321 }),
  );
  expect(resultsOf(await usage.audioTranscriptions(query))).toEqual(
    told("audio_transcriptions", 2, { seconds: 63 }),
  );
  expect(resultsOf(await usage.images(query))).toEqual(
    told("images", 2, { images: 3, size: null, source: null }),
  );
  const bySource = await usage.images({ ...query, group_by: ["source"] });
  expect(resultsOf(bySource)).toHaveLength(2);
  expect(resultsOf(bySource)).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ images: 2, source: "image.generation" }),
      expect.objectContaining({ images: 1, source: "image.edit" }),
    ]),
  );
  const edits = await usage.images({ ...query, sources: ["image.edit"] });
  expect(resultsOf(edits)).toMatchObject([{ images: 1 }]);
  await expect(usage.images({ ...query, sizes: ["512x512"] })).rejects.toThrow(/not kept/);
  // Rows from before formats were kept stay where they were counted.
  expect(resultsOf(await usage.completions(query))).toMatchObject([
    { num_model_requests: 2, input_tokens: 33, output_tokens: 44 },
  ]);
  const [older] =
    await database.sql`select format from billing.requests where at > '2026-11-01' limit 1`;
  expect(older?.format).toBeNull();
});

type Case = [atMs: number, principal: typeof search, settlement: Partial<Settlement>];

async function settleAll(cases: Case[]): Promise<void> {
  await withFolder(async (dataDir) => {
    let clockMs = 0;
    const metering = await openMetering({
      dataDir,
      sql: database.sql,
      prices,
      now: () => clockMs,
      limits: meteringLimits.parse({}),
      onError: (error) => {
        throw error;
      },
    });
    for (const [atMs, principal, overrides] of cases) {
      clockMs = atMs;
      const reservation = await metering.accounts.reserve(
        testReserve(principal, { requestId: newId("req", atMs) }),
      );
      const { cost } = await reservation.settle({
        ...testSettlement({ startedAtMs: atMs }),
        ...overrides,
      });
      spent += cost ?? 0n;
    }
    await metering.flush();
    await metering.close();
  });
}

const failed = {
  answered: undefined,
  usage: undefined,
  outcome: "upstream_failed",
  httpStatus: 502,
  errorCode: "upstream_error",
} as unknown as Partial<Settlement>;

function costLine(lineItem: string, value: number, quantity: number) {
  return {
    object: "organization.costs.result",
    amount: { value, currency: "usd" },
    line_item: lineItem,
    project_id: null,
    user_id: null,
    api_key_id: null,
    api_source: null,
    quantity,
    quantity_unit: "tokens",
  };
}

function client(): OpenAI {
  return new OpenAI({
    apiKey: "none",
    adminAPIKey: "admin",
    baseURL: "http://gateway.test/v1",
    fetch: (input, init) => Promise.resolve(reports.request(input as string, init as RequestInit)),
  });
}

function get(path: string, key = "admin"): Promise<Response> {
  return Promise.resolve(reports.request(path, { headers: { authorization: `Bearer ${key}` } }));
}

/** Parsed and not typed: the tests say what is in it. */
async function getJson(path: string, key?: string) {
  const response = await get(path, key);
  expect(response.status, path).toBe(200);
  return JSON.parse(await response.text());
}
