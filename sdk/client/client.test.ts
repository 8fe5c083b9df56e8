import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Hono } from "hono";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Listening, listen } from "../../test/support/doubles.ts";
import type { Adapter } from "../protocol/catalog.ts";
import { HubError, toErrorResponse } from "../protocol/errors.ts";
import { Switchyard, SwitchyardError } from "./index.ts";

/** What arrived at the small server, which answers with what a test put up for the path. */
type Arrived = {
  method: string;
  path: string;
  query: Record<string, string>;
  key: string;
  body: unknown;
};

let server: Listening;
let folder: string;
let arrived: Arrived[];
let answers: Record<string, (request: Request) => Response | Promise<Response>>;
let client: Switchyard;

beforeEach(async () => {
  arrived = [];
  answers = {};
  const app = new Hono();
  app.all("*", async (c) => {
    const type = c.req.header("content-type") ?? "";
    const copy = c.req.raw.clone();
    arrived.push({
      method: c.req.method,
      path: decodeURIComponent(new URL(c.req.url).pathname),
      query: c.req.query(),
      key: (c.req.header("authorization") ?? "").replace("Bearer ", ""),
      body:
        type.includes("json") && !type.includes("ndjson") ? await copy.json() : await copy.text(),
    });
    const answer = answers[`${c.req.method} ${decodeURIComponent(new URL(c.req.url).pathname)}`];
    return answer
      ? answer(c.req.raw)
      : toErrorResponse(new HubError("unknown_url", "Unknown request URL."));
  });
  server = await listen(app);
  folder = await mkdtemp(join(tmpdir(), "switchyard-client-"));
  client = new Switchyard({
    baseURL: `${server.url}/v1`,
    apiKey: "project-key",
    adminKey: "admin-key",
  });
});

afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

test("openai is the official client, pointed here with the project's key", async () => {
  answers["POST /v1/chat/completions"] = () =>
    Response.json({
      id: "c",
      object: "chat.completion",
      created: 0,
      model: "m",
      choices: [
        { index: 0, finish_reason: "stop", message: { role: "assistant", content: "hello" } },
      ],
    });
  const completion = await client.openai.chat.completions.create({
    model: "m",
    messages: [{ role: "user", content: "hi" }],
  });
  expect(completion.choices[0]?.message.content).toBe("hello");
  expect(arrived[0]).toMatchObject({ key: "project-key", body: { model: "m" } });
});

test("admin calls go out with the admin key and the body of the protocol", async () => {
  answers["POST /api/projects"] = () =>
    Response.json({ id: "proj_1", name: "checkout" }, { status: 201 });
  answers["PATCH /api/projects/proj_1"] = () => Response.json({ id: "proj_1" });
  answers["POST /api/keys"] = () => Response.json({ id: "key_1", key: "sk-sy-x" }, { status: 201 });
  answers["POST /api/keys/key_1/rotate"] = () => Response.json({ id: "key_1", key: "sk-sy-y" });
  answers["DELETE /api/keys/key_1"] = () => Response.json({ id: "key_1" });
  answers["PUT /api/models/org/model-1"] = () => Response.json({ id: "org/model-1" });
  answers["PUT /api/routes/auto"] = () => Response.json({ name: "auto" });
  answers["POST /api/prices"] = () => Response.json({ data: [] }, { status: 201 });

  await client.projects.create({ name: "checkout" });
  await client.projects.update("proj_1", { budget: null });
  expect((await client.keys.create({ name: "ci" })).key).toBe("sk-sy-x");
  expect((await client.keys.rotate("key_1")).key).toBe("sk-sy-y");
  await client.keys.revoke("key_1");
  await client.models.declare("org/model-1", {
    upstream: "openai",
    upstreamModel: "m",
    ownedBy: "o",
  });
  await client.routes.put("auto", { defaultModel: "m", fallbacks: [], tasks: [] });
  await client.prices.add([
    { model: "m", meter: "input", usdPerToken: "0.00000015", source: "list" },
  ]);

  expect(arrived.map(({ key }) => key)).toEqual(Array(8).fill("admin-key"));
  expect(arrived.map(({ method, path }) => `${method} ${path}`)).toEqual(Object.keys(answers));
  expect(arrived[1]?.body).toEqual({ budget: null });
});

test("lists are fetched to their end, page by page", async () => {
  answers["GET /api/projects"] = (request) => {
    const after = new URL(request.url).searchParams.get("after");
    return after === null
      ? Response.json({
          data: [{ id: "proj_2" }, { id: "proj_1" }],
          has_more: true,
          last_id: "proj_1",
        })
      : Response.json({ data: [{ id: "proj_0" }], has_more: false, last_id: "proj_0" });
  };
  expect((await client.projects.list()).map(({ id }) => id)).toEqual([
    "proj_2",
    "proj_1",
    "proj_0",
  ]);
  expect(arrived.map(({ query }) => query.after)).toEqual([undefined, "proj_1"]);
});

test("an error is thrown with its code, field, status and the request's id", async () => {
  answers["GET /api/datasets/x"] = () =>
    toErrorResponse(new HubError("not_found", "There is no dataset.", { param: "dataset" }), {
      "x-request-id": "req_1",
    });
  const error = await client.datasets.get("x").catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(SwitchyardError);
  expect(error).toMatchObject({
    code: "not_found",
    param: "dataset",
    status: 404,
    requestId: "req_1",
    message: "There is no dataset.",
  });
});

test("a page that is no error envelope, and a server that is not there, are errors too", async () => {
  answers["GET /api/datasets/x"] = () => new Response("<html>", { status: 418 });
  await expect(client.datasets.get("x")).rejects.toMatchObject({ code: "http_418", status: 418 });
  await server.close();
  await expect(client.keys.revoke("key_1")).rejects.toMatchObject({
    code: "connection_failed",
    message: expect.stringContaining("cannot be reached"),
  });
});

test("reading is tried again when the server is busy, writing is not", async () => {
  let busy = 1;
  const answer = () =>
    busy-- > 0
      ? toErrorResponse(new HubError("server_is_overloaded", "Busy."))
      : Response.json({ data: [] });
  answers["GET /api/prices"] = answer;
  answers["POST /api/prices"] = answer;
  expect(await client.prices.list()).toEqual([]);
  busy = 1;
  await expect(client.prices.add([])).rejects.toMatchObject({ code: "server_is_overloaded" });
  expect(arrived).toHaveLength(3);
});

test("a PEFT folder is pushed as a form, and the upload tells how far it is", async () => {
  const weights = "w".repeat(200_000);
  await writeFile(join(folder, "adapter_config.json"), '{"r":8}');
  await writeFile(join(folder, "adapter_model.safetensors"), weights);
  let received: Record<string, string> = {};
  answers["POST /api/adapters"] = async (request) => {
    const form = await request.formData();
    const texts = [...form].map(async ([name, part]) => [
      name,
      typeof part === "string" ? part : await part.text(),
    ]);
    received = Object.fromEntries(await Promise.all(texts));
    return Response.json({ adapter: { name: "sorter" }, version: { version: 1 } }, { status: 201 });
  };
  const seen: number[] = [];
  const pushed = await client.adapters.push(folder, {
    base: "tiny",
    name: "sorter",
    onProgress: ({ sentBytes, totalBytes }) => seen.push(sentBytes / totalBytes),
  });
  expect(pushed.version.version).toBe(1);
  expect(JSON.parse(received.manifest ?? "")).toEqual({ base: "tiny", name: "sorter" });
  expect(received["adapter_config.json"]).toBe('{"r":8}');
  expect(received["adapter_model.safetensors"] === weights).toBe(true);
  expect(seen.at(-1)).toBe(1);
  expect(arrived[0]?.key).toBe("project-key");
  await client.adapters.push(folder, { base: "tiny", name: "sorter", shared: true });
  expect(arrived[1]?.key).toBe("admin-key");
});

test("a folder that is no adapter is told before anything is sent", async () => {
  await expect(client.adapters.push(folder, { base: "tiny", name: "x" })).rejects.toMatchObject({
    code: "invalid_folder",
    message: expect.stringContaining("adapter_config.json"),
  });
  expect(arrived).toEqual([]);
});

test("promotion names the version that the alias points at now, so that a race is noticed", async () => {
  answers["GET /api/adapters"] = () =>
    Response.json({ data: [sorter, { ...sorter, id: "adp_2", base: "other" }] });
  answers["PUT /api/adapters/adp_1/aliases/champion"] = () => Response.json(sorter);
  answers["POST /api/adapters/adp_1/aliases/champion/rollback"] = () => Response.json(sorter);
  await client.adapters.promote("tiny:sorter", { version: 2, reason: "better" });
  expect(arrived.at(-1)?.body).toEqual({ version: 2, expect: 1, reason: "better" });
  await client.adapters.rollback("adp_1");
  expect(arrived.at(-1)?.body).toEqual({ expect: 1 });
  await expect(client.adapters.find("sorter")).rejects.toMatchObject({ code: "ambiguous_name" });
  await expect(client.adapters.find("absent")).rejects.toMatchObject({
    code: "not_found",
    message: expect.stringContaining("tiny:sorter"),
  });
});

test("a dataset's bytes arrive as they are in the file", async () => {
  const rows = '{"input":"ü","ideal":"a"}\r\n';
  await writeFile(join(folder, "rows.jsonl"), rows);
  answers["POST /api/datasets"] = () => Response.json({ sha256: "0" }, { status: 201 });
  await client.datasets.push(join(folder, "rows.jsonl"));
  expect(arrived[0]).toMatchObject({
    query: { name: `${basename(folder)}/rows.jsonl` },
    body: rows,
  });
});

test("waiting for a run tells its progress and returns when it has ended", async () => {
  let looked = 0;
  answers["GET /api/evals/runs/run_1"] = () =>
    Response.json({ id: "run_1", status: looked++ < 2 ? "running" : "done", answered: looked });
  const seen: number[] = [];
  const run = await client.evals.wait("run_1", {
    everyMs: 1,
    onProgress: ({ answered }) => seen.push(answered),
  });
  expect([run.status, seen]).toEqual(["done", [1, 2, 3]]);
});

test("a cost report is asked for by period and groups, as rows and as CSV", async () => {
  answers["GET /api/reports/costs"] = (request) =>
    request.url.includes("format=csv")
      ? new Response("model,cost_usd\r\n")
      : Response.json({ data: [{ model: "m", cost_usd: "0.1" }] });
  const query = { from: "2026-11-01", groupBy: ["model", "adapter"] };
  expect((await client.reports.costs(query)).data[0]?.cost_usd).toBe("0.1");
  expect(await client.reports.costsCsv(query)).toBe("model,cost_usd\r\n");
  expect(arrived[0]).toMatchObject({
    key: "admin-key",
    query: { from: "2026-11-01", group_by: "model,adapter" },
  });
});

test("without any key the client says which to give", async () => {
  const keyless = new Switchyard({ baseURL: server.url });
  await expect(keyless.whoami()).rejects.toMatchObject({ code: "missing_api_key" });
});

const sorter = {
  id: "adp_1",
  base: "tiny",
  name: "sorter",
  aliases: { champion: 1 },
  versions: [],
} as unknown as Adapter;
