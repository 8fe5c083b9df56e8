import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { Hono } from "hono";
import pc from "picocolors";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Listening, listen } from "../../test/support/doubles.ts";
import type { EvalRun } from "../protocol/admin.ts";
import { HubError, toErrorResponse } from "../protocol/errors.ts";
import { formatSse } from "../protocol/sse.ts";
import { main } from "./main.ts";
import type { Hooks } from "./program.ts";

/** A small server with canned answers, no logic of ours; it remembers what arrived. */
let server: Listening;
let folder: string;
const arrived: { method: string; path: string; query: string; key: string; body: unknown }[] = [];

beforeAll(async () => {
  server = await listen(cannedServer());
  folder = await mkdtemp(join(tmpdir(), "switchyard-cli-"));
});
beforeEach(() => {
  arrived.length = 0;
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

test("as a process of its own it answers in JSON, reads a pipe and ends with its exit code", async () => {
  const results = await Promise.all([
    spawned(["projects", "list", "--json"]),
    spawned(["evals", "show", "run_done", "--floor", "0.85"]),
    spawned(["chat", "tiny"], "hi\n"),
    spawned(["keys", "make"]),
  ]);
  expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 3, 0, 2]);
  expect(JSON.parse(results[0]?.stdout ?? "")).toEqual([project]);
  expect(results[2]).toEqual({ exitCode: 0, stdout: "echo hi\n", stderr: "" });
  expect(results[3]?.stderr).toContain("unknown command 'make'");
});

test("what a command would not heed is refused, and nothing is deleted", async () => {
  for (const line of [
    "logs forget --project main --to 2026-01-01",
    "logs --status 5xx forget req_1",
    "logs forget req_1 --limit 20",
    "logs show req_1 --from 2026-01-01",
  ]) {
    const result = await run(line.split(" "));
    expect([line, result.exitCode]).toEqual([line, 2]);
    expect(result.stderr).toMatch(/'logs (forget|show)' has no --/);
  }
  expect(arrived).toEqual([]);
});

test("help is shown without a server, and nothing to do is wrong use", async () => {
  const help = await run(["evals", "--help"], { env: { SWITCHYARD_URL: "http://127.0.0.1:1" } });
  expect(help).toMatchObject({ exitCode: 0, stderr: "" });
  expect(help.stdout).toContain("measured quality");
  const required = await run(["adapters", "push", "--help"]);
  expect(required.stdout).toMatch(/--name <name> .*\(required\)/);
  const forget = await run(["logs", "forget", "--help"]);
  expect(forget.stdout).toContain("--url");
  expect(forget.stdout).not.toContain("--to");
  expect((await run(["evals"])).exitCode).toBe(2);
});

test("an unknown option is wrong use, with the nearest that exists", async () => {
  const result = await run(["keys", "create", "ci", "--projekt", "checkout"]);
  expect(result.exitCode).toBe(2);
  expect(result.stderr).toContain("--project");
});

test("lists are neat tables, and whole values with --json", async () => {
  const [table, json] = await Promise.all([
    run(["projects", "list"]),
    run(["projects", "list", "--json"]),
  ]);
  expect(table.stdout.split("\n")).toEqual([
    "ID      NAME      TEAM     BUDGET  REQ/MIN  TOKENS/MIN  AT ONCE  UNPRICED  CACHE",
    "proj_1  checkout  -     $10/month    1,000           -        -  allow     -",
    "",
  ]);
  expect(JSON.parse(json.stdout)).toEqual([project]);
});

test("a project's answers are given again for so long, at the pace that is said", async () => {
  const update = (...more: string[]) => run(["projects", "update", "checkout", ...more]);
  const cached = await update(
    "--response-cache",
    "60",
    "--cache-pace",
    "recorded",
    "--cache-sampled",
  );
  expect(cached.exitCode).toBe(0);
  expect(sent("PATCH", "/api/projects/proj_1")).toEqual({
    responseCache: { ttlSeconds: 60, pace: "recorded", sampled: true },
  });
  expect(cached.stdout).toContain("60 s, sampled, recorded pace");
  expect((await update("--cache-sampled")).stderr).toContain("--response-cache");
  const purged = await run(["projects", "purge-cache", "checkout"]);
  expect(purged.stdout).toBe("Forgotten: 1,200 answers.\n");
  expect(arrived.at(-1)).toMatchObject({
    ...{ method: "DELETE", path: "/api/cache", query: "project=proj_1" },
  });
});

test("the text of a key is shown once it is made, for the project of that name", async () => {
  const result = await run([
    "keys",
    "create",
    "ci",
    "--project",
    "checkout",
    "--expires-in",
    "2h",
    "--budget",
    "5/day",
  ]);
  expect(result).toMatchObject({ exitCode: 0 });
  expect(result.stdout).toContain("sk-sy-secret");
  expect(sent("POST", "/api/keys")).toEqual({
    name: "ci",
    role: "project",
    projectId: "proj_1",
    expiresInSeconds: 7200,
    budget: { limitUsd: "5", period: "day" },
  });
});

test("the server's reason is told with its field, the request's id and what to do", async () => {
  const [text, json] = await Promise.all([
    run(["adapters", "promote", "tiny:sorter@2"]),
    run(["adapters", "promote", "tiny:sorter@2", "--json"]),
  ]);
  expect(text).toMatchObject({ exitCode: 1, stdout: "" });
  expect(text.stderr).toContain("No eval run has measured");
  expect(text.stderr).toContain("no_evidence · field version · request req_7");
  expect(text.stderr).toContain("switchyard evals run");
  expect(JSON.parse(json.stderr)).toMatchObject({
    error: { code: "no_evidence", param: "version", status: 400 },
  });
});

test("a version has to be named in a promotion", async () => {
  const result = await run(["adapters", "promote", "sorter"]);
  expect(result.exitCode).toBe(2);
  expect(result.stderr).toContain("tiny:sorter@3");
});

test("a server that is not there is told with how to start it", async () => {
  const result = await run(["keys", "revoke", "key_1", "--url", "http://127.0.0.1:1"]);
  expect(result.exitCode).toBe(1);
  expect(result.stderr).toContain("npm start");
});

test("keys that a server on this machine keeps are used for it", async () => {
  const data = join(folder, "data");
  await mkdir(data);
  await writeFile(join(data, "keys.json"), '{"adminKey":"stored-admin","apiKey":"stored-project"}');
  const env = { SWITCHYARD_API_KEY: "", SWITCHYARD_ADMIN_KEY: "", SWITCHYARD_DATA_DIR: data };
  expect((await run(["datasets", "list"], { env })).exitCode).toBe(0);
  expect(
    arrived.some(({ path, key }) => path === "/api/datasets" && key === "stored-project"),
  ).toBe(true);
});

test("an eval run pushes the file, waits, and plots every score with its interval", async () => {
  const file = join(folder, "rows.jsonl");
  await writeFile(file, '{"input":"q","ideal":"a"}\n');
  const asked = [
    "evals",
    "run",
    "--task",
    "sorting",
    "--dataset",
    file,
    "--candidates",
    "tiny,tiny:sorter",
    "--scorer",
    "regex:^a$",
  ];
  const result = await run([...asked, "--floor", "0.8"]);
  expect(result).toMatchObject({ exitCode: 0, stderr: "" });
  expect(result.stdout).toContain("The run cost $0.000015, and more: 100 answers have no price.");
  expect(result.stdout).toMatch(
    /tiny:sorter +90\.0 % +·+━*●━*·* +82\.6 % to 94\.5 % +pass +\+88\.0 \(\+79\.0 to \+93\.0\)/,
  );
  expect(sent("POST", "/api/evals/runs")).toMatchObject({
    task: "sorting",
    dataset: digest,
    candidates: ["tiny", "tiny:sorter"],
    scorer: { type: "regex", pattern: "^a$" },
  });
});

test("an eval run that leaves the floor open is inconclusive, one below it has failed", async () => {
  const floors = ["0.85", "0.99"].map((floor) =>
    run(["evals", "show", "run_done", "--floor", floor, "--json"]),
  );
  expect((await Promise.all(floors)).map(({ exitCode }) => exitCode)).toEqual([3, 1]);
  const broken = await run(["evals", "show", "run_broken"]);
  expect(broken.exitCode).toBe(1);
  expect(broken.stdout).toContain("interrupted");
});

test("costs are a table with the exact total, and the server's CSV with --csv", async () => {
  const [table, csv] = await Promise.all([
    run(["report", "costs", "--by", "model,project"]),
    run(["report", "costs", "--csv"]),
  ]);
  expect(table.stdout).toContain(
    "gpt-x  checkout        12         1,300            250         1  $1.2346           3  $0.0021  ████",
  );
  expect(table.stdout).toContain("$1.234567890123 for 12 requests");
  expect(table.stdout).toContain("1 requests have no price");
  expect(table.stdout).toContain(
    "The response cache answered 3 of them for $0.0001, which saved $0.0021 (known of 2 of them).",
  );
  expect(csv.stdout).toBe("model,cost_usd\r\ngpt-x,1.234567890123\r\n");
});

test("the log is a line for each request, oldest first, and goes on with what comes and what was lost", async () => {
  const [text, json] = await Promise.all([
    run(["logs", "-f", "--project", "checkout", "--status", "5xx"]),
    run(["logs", "--json", "-n", "2"]),
  ]);
  expect(text.stdout.split("\n")).toEqual([
    "2026-11-22 09:30:01  502 upstream_failed  checkout/ci  gpt-x  -→-  unpriced  1.2 s  error=upstream_error  req_1",
    "2026-11-22 09:30:02  200 ok  checkout/ci  tiny:sorter@3  1,000→20  $0.000015  340 ms  +0.4 ms  task=sorting  user=ada  req_2",
    "2026-11-22 09:30:03  200 ok  checkout/ci  tiny:sorter@3  1,000→20  $0.000015  340 ms  +0.4 ms  task=sorting  user=ada  req_3",
    "",
  ]);
  expect(text).toMatchObject({
    exitCode: 0,
    stderr: "1,200 requests were too many at once and are left out.\n",
  });
  const lines = json.stdout.trim().split("\n");
  expect(lines.map((line) => JSON.parse(line).id)).toEqual(["req_1", "req_2"]);
  const searches = arrived.filter(({ path }) => path.startsWith("/api/requests"));
  expect(searches.map(({ query }) => query).toSorted()).toEqual([
    "limit=2",
    "status=5xx&project=proj_1",
    "status=5xx&project=proj_1&limit=20",
  ]);
});

test("a report is one of costs when nothing else is said", async () => {
  const result = await run(["report", "--by", "model,project", "--json"]);
  expect(result.exitCode).toBe(0);
  expect(JSON.parse(result.stdout)).toMatchObject({ totals: { cost_usd: "1.234567890123" } });
});

test("every command that the documents show is written as the program wants it", async () => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const commands = [...readme.replaceAll("\\\n", " ").matchAll(/^ +npx switchyard (.+)$/gm)];
  expect(commands.length).toBeGreaterThan(3);
  for (const [, command = ""] of commands) {
    const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
      ([, quoted, bare]) => quoted ?? bare ?? "",
    );
    // The canned server does not know everything, but nothing is refused before it is asked.
    const { exitCode, stderr } = await run(words);
    expect({ command, isWrongUse: exitCode === 2, stderr: exitCode === 2 ? stderr : "" }).toEqual({
      command,
      isWrongUse: false,
      stderr: "",
    });
  }
});

test("prices for a million tokens become exact prices for one", async () => {
  expect(
    (await run(["prices", "add", "m", "--input", "0.15", "--cache-read", "0.075001"])).exitCode,
  ).toBe(0);
  expect(sent("POST", "/api/prices")).toMatchObject({
    prices: [
      { model: "m", meter: "input", usdPerToken: "0.00000015" },
      { model: "m", meter: "cache_read", usdPerToken: "0.000000075001" },
    ],
  });
  expect((await run(["prices", "add", "m", "--input", "0.1234567"])).exitCode).toBe(2);
});

test("a route's file is checked before it is sent, and its mistakes are named", async () => {
  const file = join(folder, "route.yaml");
  await writeFile(
    file,
    "name: auto\ndefaultModel: tiny\ntasks:\n  - task: sorting\n    qualityFloor: 2\n",
  );
  const result = await run(["routes", "set", file]);
  expect(result.exitCode).toBe(2);
  expect(result.stderr).toContain("tasks[0].qualityFloor");
});

test("piped lines are asked one after another in one conversation", async () => {
  const result = await run(["chat", "tiny"], { input: "one\n\ntwo\n/exit\nthree\n" });
  expect(result).toEqual({ exitCode: 0, stdout: "echo one\necho two\n", stderr: "" });
  expect(sent("POST", "/v1/chat/completions")).toMatchObject({
    messages: [
      { role: "user", content: "one" },
      { role: "assistant", content: "echo one" },
      { role: "user", content: "two" },
    ],
  });
  const json = await run(["chat", "tiny", "--json"], { input: "hi\n" });
  expect(JSON.parse(json.stdout)).toMatchObject({
    model: "tiny@1",
    content: "echo hi",
    completionTokens: 2,
  });
});

test("an error of the model ends the chat with its reason", async () => {
  const result = await run(["chat", "absent"], { input: "hi\n" });
  expect(result.exitCode).toBe(1);
  expect(result.stderr).toContain("error: There is no model 'absent'.");
  expect(result.stderr).toContain("models served");
});

test("the servers are handed in; without them the reason is told", async () => {
  const bare = await run(["config", "check"]);
  expect(bare.exitCode).toBe(2);
  expect(bare.stderr).toContain("not installed here");

  const served: unknown[] = [];
  const hooks: Hooks = {
    serve: async (options) => {
      served.push(options);
    },
    configCheck: async (file) => {
      if (file === "bad.yaml") throw new Error("bad.yaml:3: port: expected a number");
      return { file: file ?? "switchyard.yaml", models: 2 };
    },
  };
  const right = await run(["config", "check"], { hooks });
  expect(right).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("models: 2") });
  const wrong = await run(["config", "check", "bad.yaml"], { hooks });
  expect(wrong).toMatchObject({
    exitCode: 1,
    stderr: "error: bad.yaml:3: port: expected a number\n",
  });
  await run(["serve", "--model", "folder", "--port", "0"], { hooks });
  expect(served).toEqual([{ model: "folder", port: 0 }]);
});

type Result = { exitCode: number | null; stdout: string; stderr: string };
type RunOptions = { env?: Record<string, string>; input?: string; hooks?: Hooks };

/** The command in this process, at a terminal of the test's. */
async function run(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stdin.end(options.input ?? "");
  const colours = pc.createColors(false);
  const env = { ...environment(), ...options.env };
  const exitCode = await main(args, options.hooks, {
    env,
    stdin,
    stdout,
    stderr,
    colours,
    errorColours: colours,
  });
  const text = (stream: PassThrough) => String(stream.read() ?? "");
  return { exitCode, stdout: text(stdout), stderr: text(stderr) };
}

/** The command as a user runs it, in a process of its own. */
function spawned(args: readonly string[], input = ""): Promise<Result> {
  const env = { PATH: process.env.PATH, ...environment() };
  const child = spawn(process.execPath, [bin, ...args], { cwd: folder, env });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  child.stdin.end(input);
  return new Promise((resolve) =>
    child.on("close", (exitCode) => resolve({ exitCode, stdout, stderr })),
  );
}

function environment(): Record<string, string> {
  return {
    SWITCHYARD_URL: server.url,
    SWITCHYARD_API_KEY: "project-key",
    SWITCHYARD_ADMIN_KEY: "admin-key",
  };
}

/** The newest body that arrived there. */
function sent(method: string, path: string): unknown {
  return arrived.findLast((one) => one.method === method && one.path === path)?.body;
}

function cannedServer(): Hono {
  const app = new Hono();
  app.use(async (c, next) => {
    const isJson = (c.req.header("content-type") ?? "").startsWith("application/json");
    arrived.push({
      method: c.req.method,
      path: c.req.path,
      query: new URL(c.req.url).search.slice(1),
      key: (c.req.header("authorization") ?? "").replace("Bearer ", ""),
      body: isJson ? await c.req.json() : await c.req.text(),
    });
    await next();
  });
  app.get("/api/projects", (c) => c.json({ data: [project] }));
  app.delete("/api/cache", (c) => c.json({ object: "response_cache.purged", purged: 1200 }));
  app.patch("/api/projects/proj_1", async (c) => c.json({ ...project, ...(await c.req.json()) }));
  app.post("/api/keys", (c) => c.json({ id: "key_1", key: "sk-sy-secret" }, 201));
  app.get("/api/adapters", (c) =>
    c.json({ data: [{ id: "adp_1", base: "tiny", name: "sorter", aliases: {}, versions: [] }] }),
  );
  app.put("/api/adapters/adp_1/aliases/champion", () =>
    toErrorResponse(
      new HubError("no_evidence", "No eval run has measured this version.", { param: "version" }),
      { "x-request-id": "req_7" },
    ),
  );
  app.get("/api/datasets", (c) => c.json({ data: [] }));
  app.post("/api/datasets", (c) => c.json({ sha256: digest }, 201));
  app.post("/api/evals/runs", (c) => c.json({ ...doneRun, status: "running" }, 201));
  app.get("/api/evals/runs/run_done", (c) => c.json(doneRun));
  app.get("/api/evals/runs/run_broken", (c) =>
    c.json({ ...doneRun, status: "failed", error: "interrupted", candidates: [] }),
  );
  app.get("/api/reports/costs", (c) =>
    c.req.query("format") === "csv"
      ? c.text("model,cost_usd\r\ngpt-x,1.234567890123\r\n")
      : c.json(costs),
  );
  app.get("/api/requests", (c) => c.json({ data: [logged("req_2"), failedRequest] }));
  app.get("/api/requests/stream", (c) => {
    const events = [
      [logged("req_2"), "request"],
      [{ count: 1200 }, "lost"],
      [logged("req_3"), "request"],
    ] as const;
    const frames = events.map(([data, event]) => formatSse(JSON.stringify(data), event));
    return c.body(`: following\n\n${frames.join("")}`, 200, {
      "content-type": "text/event-stream",
    });
  });
  app.post("/api/prices", (c) => c.json({ data: [] }, 201));
  app.post("/v1/chat/completions", async (c) => {
    const { model, messages } = await c.req.json();
    if (model === "absent")
      return toErrorResponse(new HubError("model_not_found", "There is no model 'absent'."));
    const pieces = ["echo ", messages.at(-1).content];
    const chunks = pieces.map((content: string) => ({
      choices: [{ index: 0, delta: { content } }],
    }));
    const usage = {
      choices: [],
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
    };
    const frames = [...chunks, usage].map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`);
    return c.body(`${frames.join("")}data: [DONE]\n\n`, 200, {
      "content-type": "text/event-stream",
      "x-switchyard-model": `${model}@1`,
    });
  });
  return app;
}

const bin = fileURLToPath(new URL("../../deploy/cli/bin.js", import.meta.url));
const digest = "d".repeat(64);

const logged = (id: string) => ({
  id,
  at: `2026-11-22T09:30:0${id.slice(-1)}.120Z`,
  project_name: "checkout",
  key_name: "ci",
  requested_model: "auto",
  model: "tiny",
  adapter: "sorter",
  adapter_version: 3,
  http_status: 200,
  outcome: "ok",
  tokens: { input: 900, cache_read: 100, output: 20, reasoning: null },
  cost_usd: "0.000015",
  duration_ms: 340,
  timings: { overhead: 0.4321 },
  task: "sorting",
  end_user: "ada",
});
const failedRequest = {
  id: "req_1",
  at: "2026-11-22T09:30:01.000Z",
  project_name: "checkout",
  key_name: "ci",
  requested_model: "gpt-x",
  model: null,
  http_status: 502,
  outcome: "upstream_failed",
  error_code: "upstream_error",
  tokens: { input: null, output: null },
  cost_usd: null,
  duration_ms: 1200,
  timings: null,
};
const project = {
  id: "proj_1",
  name: "checkout",
  limits: { requestsPerMinute: 1000 },
  budget: { limitUsd: "10", period: "month" },
  unpriced: "allow",
  archived: false,
};

const doneRun: EvalRun = {
  id: "run_done",
  projectId: "proj_1",
  task: "sorting",
  dataset: digest,
  scorer: { type: "exact" },
  status: "done",
  rows: 100,
  answered: 200,
  candidates: [
    {
      candidate: "tiny",
      n: 100,
      correct: 2,
      errored: 0,
      score: 0.02,
      lower: 0.0055,
      upper: 0.07,
      unpriced: 100,
    },
    {
      candidate: "tiny:sorter",
      n: 100,
      correct: 90,
      errored: 0,
      score: 0.9,
      lower: 0.8256,
      upper: 0.9448,
      unpriced: 0,
      meanCostUsd: "0.00000015",
      totalCostUsd: "0.000015",
      versusFirst: { n: 100, gained: 89, lost: 1, difference: 0.88, lower: 0.79, upper: 0.93 },
      latencyP50Ms: 20,
    },
  ],
  createdAt: "2026-11-21T10:00:00.000Z",
};

const figures = {
  requests: 12,
  unpriced_requests: 1,
  tokens: { input: 1200, cache_read: 100, cache_write: null, output: 250, reasoning: null },
  cost_usd: "1.234567890123",
  response_cache: {
    hits: 3,
    cost_usd: "0.0001",
    priced_hits: 2,
    uncached_cost_usd: "0.0022",
    saving_usd: "0.0021",
  },
};
const costs = {
  from: "2026-11-01T00:00:00.000Z",
  to: "2026-11-21T10:00:00.000Z",
  group_by: ["model", "project"],
  data: [{ model: "gpt-x", project: "proj_1", project_name: "checkout", ...figures }],
  totals: figures,
};
