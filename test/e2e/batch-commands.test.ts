/** `switchyard files` and `switchyard batches` against a real gateway with a real database. */
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import pc from "picocolors";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createHttpServer } from "../../gateway/http/server.ts";
import { migrateLedger } from "../../gateway/ledger/database.ts";
import { type OpenedGateway, openGateway } from "../../gateway/open-gateway.ts";
import { main } from "../../sdk/cli/main.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { testRegistry } from "../support/gateway.ts";
import { testKey, testModel, testPrices, testProject, testSnapshot } from "../support/policy.ts";

const apiKey = "sk-sy-key-of-acme";
const acme = testProject("acme");
let database: TestDatabase;
let emulator: OpenAiEmulator;
let gateway: OpenedGateway;
let server: Server;
let folder: string;
/** What the emulated model waits for before it answers "wait". */
let goOn: Promise<void> = Promise.resolve();

beforeAll(async () => {
  database = await openTestDatabase();
  await migrateLedger(database.sql);
  folder = await mkdtemp(join(tmpdir(), "switchyard-batch-commands-"));
  emulator = await startOpenAiEmulator({
    answer: ({ messages }) => `echo ${messages.at(-1)?.content}`,
    before: ({ messages }) => (messages.at(-1)?.content === "wait" ? goOn : undefined),
  });
  gateway = await openGateway({
    sql: database.sql,
    dataDir: join(folder, "data"),
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    registry: testRegistry(
      testSnapshot({
        projects: [acme],
        keys: [testKey(apiKey, { projectId: acme.id })],
        models: [testModel("gpt-test"), testModel("refuses", { upstreamModel: "m!context" })],
        prices: testPrices("gpt-test", { input: "0.000002", output: "0.000004" }),
      }),
      "operator-key-of-the-tests",
    ),
    operatorKey: "operator-key-of-the-tests",
    logger: pino({ level: "silent" }),
    limits: { batchPollMs: 100, fileBytesMax: 3_000_000 },
  });
  await gateway.start();
  server = createHttpServer(gateway.app.fetch);
  await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(async () => {
  server.close();
  server.closeAllConnections();
  await gateway.stop();
  await emulator.close();
  await database.close();
  await rm(folder, { recursive: true });
});

/** The command as somebody types it, without a terminal before it. */
async function run(...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const colours = pc.createColors(false);
  const told = Promise.all([text(stdout), text(stderr)]);
  const exitCode = await main(
    ["--url", `http://127.0.0.1:${(server.address() as AddressInfo).port}`, ...args],
    {},
    {
      env: {
        SWITCHYARD_API_KEY: apiKey,
        SWITCHYARD_CONFIG_DIR: folder,
        SWITCHYARD_DATA_DIR: folder,
      },
      ...{ stdin, stdout, stderr, colours, errorColours: colours },
    },
  );
  stdout.end();
  stderr.end();
  const [out, err] = await told;
  return { exitCode, out, err };
}

async function jsonOf(...args: string[]) {
  const { out, err } = await run(...args, "--json");
  if (out === "") throw new Error(err);
  return JSON.parse(out);
}

const line = (customId: string, model = "gpt-test", content = customId) =>
  JSON.stringify({
    custom_id: customId,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model, messages: [{ role: "user", content }] },
  });

async function write(name: string, content: string | Buffer): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

test("a file is sent as it is, listed, read back and deleted", async () => {
  const content = Buffer.from(Array.from({ length: 700_001 }, (_, at) => (at * 7) % 251));
  const path = await write('für "später".bin', content);
  const file = await jsonOf(
    "files",
    "upload",
    path,
    "--purpose",
    "user_data",
    "--expires-in",
    "2h",
  );
  expect(file).toMatchObject({
    id: expect.stringMatching(/^file-/),
    bytes: 700_001,
    purpose: "user_data",
    filename: expect.stringContaining("für"),
  });
  expect(file.expires_at - file.created_at).toBe(7200);
  expect(await jsonOf("files", "show", file.id)).toEqual(file);
  expect(await jsonOf("files", "list")).toEqual([file]);
  expect(await jsonOf("files", "list", "--purpose", "batch")).toEqual([]);
  expect((await run("files", "list")).out).toMatch(
    /^ID .*\nfile-\w+ +für .* user_data +683\.6 KiB /,
  );

  const out = join(folder, "copy.bin");
  expect((await run("files", "download", file.id, "--out", out)).exitCode).toBe(0);
  expect((await readFile(out)).equals(content)).toBe(true);
  const again = await run("files", "download", file.id, "--out", out);
  expect(again).toMatchObject({ exitCode: 2, err: expect.stringContaining("is there already") });

  expect(await jsonOf("files", "delete", file.id)).toEqual([{ id: file.id, deleted: true }]);
  const gone = await run("files", "show", file.id);
  expect(gone).toMatchObject({ exitCode: 1, err: expect.stringContaining("not_found") });
});

test("an empty file comes back as empty", async () => {
  const path = await write("empty.txt", "");
  const { id } = await jsonOf("files", "upload", path, "--purpose", "user_data", "--name", "a.txt");
  expect(await run("files", "download", id)).toEqual({ exitCode: 0, out: "", err: "" });
  await run("files", "delete", id);
});

test("what is no file, has a wrong purpose or is too large is told, and nothing is sent of it", async () => {
  const nothing = await run("files", "upload", join(folder, "no-such-file"));
  expect(nothing).toMatchObject({ exitCode: 2, err: expect.stringContaining("cannot be read") });
  const path = await write("notes.txt", "hello");
  expect((await run("files", "upload", path, "--purpose", "poems")).exitCode).toBe(2);
  const wrong = await run("files", "upload", path);
  expect(wrong).toMatchObject({ exitCode: 1, err: expect.stringContaining("Must be .jsonl") });
  const large = await write("large.bin", Buffer.alloc(3_000_001));
  const refused = await run("files", "upload", large, "--purpose", "vision");
  expect(refused).toMatchObject({ exitCode: 1, err: expect.stringContaining("request_too_large") });
  expect(await jsonOf("files", "list")).toEqual([]);
});

test("a file of requests is sent, run and waited for, and its answers are lines again", async () => {
  const path = await write("input.jsonl", `${line("one")}\n${line("two")}\n`);
  const batch = await jsonOf("batches", "create", path, "--wait", "--metadata", "for=tests");
  expect(batch).toMatchObject({
    status: "completed",
    endpoint: "/v1/chat/completions",
    request_counts: { total: 2, completed: 2, failed: 0 },
    metadata: { for: "tests" },
  });
  const { out, exitCode } = await run("batches", "results", batch.id);
  const answers = out.trim().split("\n");
  expect(exitCode).toBe(0);
  expect(answers.map((one) => JSON.parse(one))).toMatchObject([
    { custom_id: "one", response: { body: { choices: [{ message: { content: "echo one" } }] } } },
    { custom_id: "two", response: { body: { choices: [{ message: { content: "echo two" } }] } } },
  ]);
  const file = join(folder, "results.jsonl");
  expect((await run("batches", "results", batch.id, "--out", file)).exitCode).toBe(0);
  expect(await readFile(file, "utf8")).toBe(out);
  expect((await run("batches", "results", batch.id, "--out", file)).err).toContain("already");
  expect((await run("batches", "results", batch.id, "--failed")).out).toBe("");

  expect((await jsonOf("batches", "list"))[0]).toEqual(batch);
  const { out: shown } = await run("batches", "show", batch.id);
  expect(shown).toMatch(/completed +\/v1\/chat\/completions +gpt-test +2 +2 +0 /);
});

test("a batch of which some requests failed ends with 1, and tells of them apart", async () => {
  const path = await write("mixed.jsonl", `${line("good")}\n${line("bad", "refuses")}\n`);
  const { out, exitCode } = await run("batches", "create", path, "--wait", "--json");
  const { id, request_counts } = JSON.parse(out);
  expect([exitCode, request_counts]).toEqual([1, { total: 2, completed: 1, failed: 1 }]);
  const idsOf = async (...which: string[]) =>
    (await run("batches", "results", id, ...which)).out
      .trim()
      .split("\n")
      .map((one) => JSON.parse(one).custom_id);
  expect(await idsOf()).toEqual(["good", "bad"]);
  expect(await idsOf("--succeeded")).toEqual(["good"]);
  expect(await idsOf("--failed")).toEqual(["bad"]);
  expect((await run("batches", "results", id, "--failed", "--succeeded")).exitCode).toBe(2);
  expect((await run("batches", "show", id)).exitCode).toBe(1);
});

test("what is wrong with a file is told line by line", async () => {
  const path = await write("wrong.jsonl", `${line("a")}\n${line("a")}\n`);
  const result = await run("batches", "create", path, "--wait");
  expect(result.exitCode).toBe(1);
  expect(result.out).toMatch(/failed .*\n\nline 2 {2}/s);
  const noLines = await write("no-lines.jsonl", "hello\n");
  const refused = await run("batches", "create", noLines);
  expect(refused).toMatchObject({ exitCode: 1, err: expect.stringContaining("JSON lines") });
});

test("a batch of a file that was sent before is begun without waiting, and cancelled", async () => {
  let release = () => {};
  goOn = new Promise((resolve) => {
    release = resolve;
  });
  const lines = [line("first", "gpt-test", "wait"), line("second", "gpt-test", "wait")];
  const path = await write("later.jsonl", lines.join("\n"));
  const file = await jsonOf("files", "upload", path);
  expect((await run("batches", "create", file.id)).err).toContain("--endpoint");
  const endpoint = "/v1/chat/completions";
  const batch = await jsonOf(
    "batches",
    "create",
    file.id,
    "--endpoint",
    endpoint,
    "--window",
    "2h",
  );
  expect(batch).toMatchObject({ status: "validating", completion_window: "2h" });
  const early = await run("batches", "results", batch.id);
  expect(early).toMatchObject({ exitCode: 1, err: expect.stringContaining("--wait") });
  expect((await jsonOf("batches", "cancel", batch.id)).status).toBe("cancelling");
  release();
  const { out, exitCode } = await run("batches", "show", batch.id, "--wait", "--json");
  expect([JSON.parse(out).status, exitCode]).toEqual(["cancelled", 1]);
  expect((await run("batches", "cancel", batch.id)).err).toContain("invalid_state");
});

test("help says how, without a server", async () => {
  for (const noun of ["files", "batches"]) {
    const help = await run(noun, "--help", "--url", "http://127.0.0.1:1");
    expect(help).toMatchObject({ exitCode: 0, err: "" });
  }
  expect((await run("batches", "create", "--help")).out).toContain("Exit codes");
  expect((await run("files")).exitCode).toBe(2);
});
