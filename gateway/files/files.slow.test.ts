/** Files and uploads: sent, listed, read and deleted by the official client, over a real database. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI, { toFile } from "openai";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ErrorBody } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { testRegistry } from "../../test/support/gateway.ts";
import { testKey, testProject, testSnapshot } from "../../test/support/policy.ts";
import { BatchLease } from "../batches/lease.ts";
import { BatchStore } from "../batches/store.ts";
import { createHttpServer } from "../http/server.ts";
import { migrateLedger } from "../ledger/database.ts";
import { type OpenedGateway, openGateway } from "../open-gateway.ts";
import { FileStore } from "./store.ts";
import { UploadStore } from "./uploads.ts";

const operatorKey = "operator-key-of-the-tests";
const acme = testProject("acme");
const other = testProject("other");
const small = testProject("small");
const dayMs = 24 * 60 * 60_000;
const limits = {
  fileBytesMax: 2_000_000,
  batchFileBytesMax: 1_000_000,
  projectFileBytesMax: 5_000_000,
  projectFilesMax: 30,
  partBytesMax: 600_000,
  uploadPartsMax: 5,
  projectUploadsMax: 3,
  fileTransfersPerProjectMax: 6,
  fileStoreTimeoutMs: 10_000,
  fileMoveTimeoutMs: 20_000,
};
let nowMs = Date.parse("2026-06-01T12:00:00Z");
let database: TestDatabase;
let gateway: OpenedGateway;
let server: Server;
let dataDir: string;

beforeAll(async () => {
  database = await openTestDatabase();
  await migrateLedger(database.sql);
  // A language's order of texts, as most databases have it, is not that of their bytes.
  await database.sql`alter table gateway.files alter column id type text collate "und-x-icu"`;
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-files-"));
  const snapshot = testSnapshot({
    projects: [acme, other, small],
    keys: [acme, other, small].map((it) => testKey(keyOf(it.name), { projectId: it.id })),
  });
  gateway = await openGateway({
    sql: database.sql,
    dataDir,
    upstreams: [],
    registry: testRegistry(snapshot, operatorKey),
    operatorKey,
    logger: pino({ level: "silent" }),
    limits,
    now: () => nowMs,
  });
  await gateway.start();
  server = createHttpServer(gateway.app.fetch);
  await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(async () => {
  server.close();
  server.closeAllConnections();
  await gateway.stop();
  await database.close();
  await rm(dataDir, { recursive: true });
});

const keyOf = (project: string) => `sk-sy-key-of-${project}`;
const port = () => (server.address() as AddressInfo).port;
const client = (project = "acme") =>
  new OpenAI({
    apiKey: keyOf(project),
    baseURL: `http://127.0.0.1:${port()}/v1`,
    maxRetries: 0,
  });
const bytesOf = (length: number) => Buffer.from(Array.from({ length }, (_, at) => (at * 7) % 251));
const chunksInDatabase = async () => {
  const [row] = await database.sql`select count(*)::int as chunks from gateway.file_chunks`;
  return row?.chunks as number;
};

test("a file comes back as it was sent, larger than a chunk, and goes when it is deleted", async () => {
  const { files } = client();
  const content = bytesOf(700_001);
  const file = await files.create({
    file: await toFile(content, "für später.txt"),
    purpose: "user_data",
  });
  expect(file).toEqual({
    id: expect.stringMatching(/^file-[0-9a-z]{26}$/),
    object: "file",
    bytes: 700_001,
    created_at: nowMs / 1000,
    filename: "für später.txt",
    purpose: "user_data",
    status: "processed",
  });
  expect(await files.retrieve(file.id)).toEqual(file);
  const sent = await files.content(file.id);
  expect(sent.headers.get("content-disposition")).toContain("filename*=UTF-8''f%C3%BCr%20sp");
  expect(Buffer.from(await sent.arrayBuffer()).equals(content)).toBe(true);
  const [row] = await database.sql`select sha256 from gateway.files where id = ${file.id}`;
  expect(row?.sha256).toBe(createHash("sha256").update(content).digest("hex"));

  expect(await files.delete(file.id)).toEqual({ id: file.id, object: "file", deleted: true });
  await expect(files.retrieve(file.id)).rejects.toMatchObject({ status: 404 });
  expect(await chunksInDatabase()).toBe(0);
});

test("another project's file does not exist", async () => {
  const mine = await client().files.create({
    file: await toFile(Buffer.from("x"), "a.txt"),
    purpose: "vision",
  });
  const theirs = client("other").files;
  const gone = { status: 404, message: expect.stringContaining("No such File object") };
  await expect(theirs.retrieve(mine.id)).rejects.toMatchObject(gone);
  await expect(theirs.content(mine.id)).rejects.toMatchObject(gone);
  await expect(theirs.delete(mine.id)).rejects.toMatchObject(gone);
  expect((await theirs.list()).data).toEqual([]);
  await expect(client().files.retrieve("file-\0")).rejects.toMatchObject({ status: 404 });
  await client().files.delete(mine.id);
});

test("pages follow one another, either way, and of one purpose", async () => {
  const { files } = client();
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) {
    nowMs += 1000;
    const purpose = index === 2 ? "evals" : "assistants";
    ids.push(
      (await files.create({ file: await toFile(Buffer.from("{}"), `${index}.jsonl`), purpose })).id,
    );
  }
  const seen = async (query: OpenAI.FileListParams) => {
    const found: string[] = [];
    for await (const { id } of files.list(query)) found.push(id);
    return found;
  };
  expect(await seen({ limit: 2 })).toEqual(ids.toReversed());
  expect(await seen({ limit: 2, order: "asc" })).toEqual(ids);
  expect(await seen({ purpose: "evals" })).toEqual([ids[2]]);
  const page = await files.list({ limit: 2 });
  expect([page.has_more, page.data.length]).toEqual([true, 2]);
  for (const id of ids) await files.delete(id);
});

test("a file expires when it was to, a batch's after its days, and its bytes are swept", async () => {
  const { files } = client();
  const soon = await files.create({
    file: await toFile(Buffer.from("x"), "a.txt"),
    purpose: "user_data",
    expires_after: { anchor: "created_at", seconds: 3600 },
  });
  const input = await files.create({
    file: await toFile(Buffer.from("{}"), "b.jsonl"),
    purpose: "batch",
  });
  expect(soon.expires_at).toBe(soon.created_at + 3600);
  expect(input.expires_at).toBe(input.created_at + 30 * 24 * 3600);
  nowMs += 3_600_000;
  await expect(files.retrieve(soon.id)).rejects.toMatchObject({ status: 404 });
  await files.retrieve(input.id);
  nowMs += 30 * dayMs;
  expect((await files.list()).data).toEqual([]);
  await new FileStore({ sql: database.sql, now: () => nowMs + 1, limits: allLimits }).sweep();
  expect(await chunksInDatabase()).toBe(0);
});

test("what a purpose, a format or a size does not allow is refused, and leaves nothing behind", async () => {
  const { files } = client();
  const refused = async (file: File, params: object, expected: object) =>
    expect(files.create({ file, ...params } as OpenAI.FileCreateParams)).rejects.toMatchObject(
      expected,
    );
  const text = await toFile(Buffer.from("x"), "a.txt");
  await refused(text, { purpose: "batch_output" }, { status: 400, param: "purpose" });
  await refused(text, { purpose: "batch" }, { message: expect.stringContaining("Must be .jsonl") });
  const expires_after = { anchor: "created_at", seconds: 1 };
  await refused(text, { purpose: "vision", expires_after }, { param: "expires_after[seconds]" });
  await refused(await toFile(bytesOf(2_000_001), "a.bin"), { purpose: "vision" }, { status: 413 });
  await refused(await toFile(bytesOf(1_000_001), "a.jsonl"), { purpose: "batch" }, { status: 413 });
  await refused(await toFile(bytesOf(3_200_000), "a.bin"), { purpose: "vision" }, { status: 413 });
  expect(await chunksInDatabase()).toBe(0);
  const [drafts] = await database.sql`select count(*)::int as files from gateway.files`;
  expect(drafts?.files).toBe(0);
});

test("a project's files have a bound together, also when they come at once", async () => {
  const { files } = client("small");
  const send = async () =>
    files.create({ file: await toFile(bytesOf(1_500_000), "a.bin"), purpose: "user_data" }).then(
      ({ id }) => id,
      (error: { status: number }) => error.status,
    );
  const answers = await Promise.all(Array.from({ length: 5 }, send));
  expect(answers.filter((it) => typeof it === "string")).toHaveLength(3);
  expect(answers.filter((it) => it === 413)).toHaveLength(2);
  for (const id of answers) if (typeof id === "string") await files.delete(id);
});

test("an upload's parts are put together in the order that is asked for, and checked", async () => {
  const { uploads, files } = client();
  const content = bytesOf(1_100_000);
  const upload = await uploads.create({
    filename: "whole.bin",
    purpose: "user_data",
    bytes: content.length,
    mime_type: "application/octet-stream",
  });
  expect(upload).toMatchObject({ object: "upload", status: "pending", file: null });
  const part = async (from: number, to: number) => {
    const data = await toFile(content.subarray(from, to), "part");
    return (await uploads.parts.create(upload.id, { data })).id;
  };
  const last = await part(600_000, content.length);
  const first = await part(0, 600_000);
  const lost = await part(0, 1000);
  const complete = (part_ids: string[], md5?: string) =>
    uploads.complete(upload.id, { part_ids, ...(md5 && { md5 }) });
  await expect(complete([first])).rejects.toMatchObject({ status: 400, param: "part_ids" });
  await expect(complete([first, first, lost])).rejects.toMatchObject({ param: "part_ids" });
  await expect(complete([first, last], "0".repeat(32))).rejects.toMatchObject({ param: "md5" });
  const md5 = createHash("md5").update(content).digest("hex");
  await expect(
    client("other").uploads.complete(upload.id, { part_ids: [first, last] }),
  ).rejects.toMatchObject({ status: 404 });
  const completed = await complete([first, last], md5);
  expect(completed).toMatchObject({
    status: "completed",
    file: { object: "file", bytes: content.length, filename: "whole.bin", purpose: "user_data" },
  });
  const { id } = completed.file as { id: string };
  const read = Buffer.from(await (await files.content(id)).arrayBuffer());
  expect(read.equals(content)).toBe(true);
  await expect(complete([first, last])).rejects.toMatchObject({ status: 409 });
  await expect(uploads.cancel(upload.id)).rejects.toMatchObject({ status: 409 });
  await files.delete(id);
  expect(await chunksInDatabase()).toBe(0);
});

test("an upload that is cancelled, late or too large takes no more parts", async () => {
  const { uploads } = client();
  const create = () =>
    uploads.create({ filename: "a.bin", purpose: "vision", bytes: 100, mime_type: "image/png" });
  const send = async (id: string, bytes: number) =>
    uploads.parts.create(id, { data: await toFile(bytesOf(bytes), "part") });
  const upload = await create();
  await send(upload.id, 100);
  await expect(send(upload.id, 101)).rejects.toMatchObject({ status: 413 });
  await expect(send(upload.id, 600_001)).rejects.toMatchObject({ status: 413 });
  expect(await uploads.cancel(upload.id)).toMatchObject({ status: "cancelled" });
  await expect(send(upload.id, 1)).rejects.toMatchObject({ status: 409 });
  expect(await chunksInDatabase()).toBe(0);

  const late = await create();
  await send(late.id, 50);
  nowMs += 3_600_000;
  await expect(send(late.id, 50)).rejects.toMatchObject({
    message: expect.stringContaining("expired"),
  });
  const files = new FileStore({ sql: database.sql, now: () => nowMs, limits: allLimits });
  nowMs += dayMs + 1;
  await new UploadStore({ sql: database.sql, files, now: () => nowMs, limits: allLimits }).sweep();
  expect(await chunksInDatabase()).toBe(0);
  await expect(send(late.id, 50)).rejects.toMatchObject({ status: 404 });

  for (let index = 0; index < 3; index++) await create();
  await expect(create()).rejects.toMatchObject({ status: 429 });
  await expect(
    uploads.create({ filename: "a", purpose: "vision", bytes: 2_000_001, mime_type: "" }),
  ).rejects.toMatchObject({ status: 413, param: "bytes" });
});

test("a part that arrives while its upload is cancelled leaves nothing behind", async () => {
  const files = new FileStore({ sql: database.sql, now: () => nowMs, limits: allLimits });
  const uploads = new UploadStore({
    sql: database.sql,
    files,
    now: () => nowMs,
    limits: allLimits,
  });
  const facts = { purpose: "vision", filename: "a", expiresAfter: undefined } as const;
  const { id } = await uploads.create("proj_a", { ...facts, bytes: 600_000, mimeType: "" });
  const of = { projectId: "proj_a", id };
  async function* slowly() {
    yield bytesOf(300_000);
    await uploads.cancel(of);
    yield bytesOf(300_000);
  }
  await expect(uploads.addPart(of, slowly())).rejects.toMatchObject({ code: "invalid_state" });
  expect(await chunksInDatabase()).toBe(0);
});

test("uploads under way are announced no larger together than a project's files may be", async () => {
  const { uploads } = client("small");
  const create = () =>
    uploads.create({ filename: "a", purpose: "vision", bytes: 2_000_000, mime_type: "a/b" });
  const first = await create();
  const second = await create();
  await expect(create()).rejects.toMatchObject({ status: 413 });
  await uploads.cancel(first.id);
  await uploads.cancel((await create()).id);
  await uploads.cancel(second.id);
});

test("texts that no database could hold are the client's mistake", async () => {
  const { files, uploads } = client();
  await expect(files.list({ purpose: "\0" })).rejects.toMatchObject({ status: 400 });
  const upload = { filename: "a", purpose: "vision", bytes: 1, mime_type: "\0" } as const;
  await expect(uploads.create(upload)).rejects.toMatchObject({ status: 400, param: "mime_type" });
});

const form = (...parts: string[]) => `${parts.map((it) => `--XX\r\n${it}\r\n`).join("")}--XX--\r\n`;
const field = (name: string, value: string, more = "") =>
  `Content-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}`;

test.each([
  ["no boundary", "multipart/form-data", form(field("purpose", "vision")), 415],
  ["JSON", "application/json", "{}", 415],
  ["no file", "multipart/form-data; boundary=XX", form(field("purpose", "vision")), 400],
  ["a file that is a field", "multipart/form-data; boundary=XX", form(field("file", "x")), 400],
  [
    "a file without purpose",
    "multipart/form-data; boundary=XX",
    form(field("file", "x", '; filename="a.txt"')),
    400,
  ],
  [
    "two files",
    "multipart/form-data; boundary=XX",
    form(field("file", "x", '; filename="a"'), field("file", "y", '; filename="b"')),
    400,
  ],
  [
    "a huge filename",
    "multipart/form-data; boundary=XX",
    form(field("file", "x", `; filename="${"a".repeat(300)}"`), field("purpose", "vision")),
    400,
  ],
  [
    "a field that is too large",
    "multipart/form-data; boundary=XX",
    form(field("purpose", "x".repeat(5000))),
    413,
  ],
  ["headers without end", "multipart/form-data; boundary=XX", `--XX\r\n${"x".repeat(50_000)}`, 400],
])("a form with %s is refused", async (_, type, body, status) => {
  const response = await fetch(`http://127.0.0.1:${port()}/v1/files`, {
    method: "POST",
    headers: { authorization: `Bearer ${keyOf("acme")}`, "content-type": type },
    body,
  });
  expect(response.status).toBe(status);
  expect(((await response.json()) as ErrorBody).error.message).not.toBe("");
  expect(await chunksInDatabase()).toBe(0);
});

test("a path in a filename is a name, and opens nothing", async () => {
  const response = await fetch(`http://127.0.0.1:${port()}/v1/files`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${keyOf("acme")}`,
      "content-type": "multipart/form-data; boundary=XX",
    },
    body: form(field("file", "x", '; filename="../../etc/passwd"'), field("purpose", "vision")),
  });
  const file = (await response.json()) as OpenAI.FileObject;
  expect(file.filename).toBe("passwd");
  await client().files.delete(file.id);
});

test("a client that asks for the head alone takes no place of a transfer", async () => {
  const { id } = await client().files.create({
    file: await toFile(bytesOf(900_000), "a.bin"),
    purpose: "user_data",
  });
  for (let count = 0; count < 2 * limits.fileTransfersPerProjectMax; count++) {
    const head = await fetch(`http://127.0.0.1:${port()}/v1/files/${id}/content`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${keyOf("acme")}` },
    });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "900000"]);
  }
  await client().files.delete(id);
});

test("a client that leaves in the middle leaves nothing behind", async () => {
  const head = `--XX\r\n${field("file", "", '; filename="a.bin"')}`;
  const socket = connect(port(), "127.0.0.1");
  socket.write(
    `POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${keyOf("acme")}\r\n` +
      "content-type: multipart/form-data; boundary=XX\r\ncontent-length: 1500000\r\n\r\n",
  );
  socket.write(head);
  socket.write(bytesOf(900_000));
  await expect.poll(chunksInDatabase, { timeout: 20_000 }).toBeGreaterThan(0);
  socket.destroy();
  await expect.poll(chunksInDatabase, { timeout: 20_000 }).toBe(0);
});

test("a length beyond the bound is refused before the body comes, and other methods are", async () => {
  const socket = connect(port(), "127.0.0.1");
  socket.write(
    `POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${keyOf("acme")}\r\n` +
      "content-type: multipart/form-data; boundary=XX\r\ncontent-length: 99000000\r\n\r\n",
  );
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 413 /);
  socket.destroy();
  for (const [method, path, allowed] of [
    ["PUT", "/v1/files", "GET or POST"],
    ["POST", "/v1/files/file-1", "GET or DELETE"],
    ["POST", "/v1/files/file-1/content", "GET"],
    ["GET", "/v1/uploads", "POST"],
    ["GET", "/v1/uploads/upload_1/parts", "POST"],
  ]) {
    const response = await fetch(`http://127.0.0.1:${port()}${path}`, { method: method as string });
    expect(response.status).toBe(405);
    expect(((await response.json()) as ErrorBody).error.message).toContain(`Use ${allowed}.`);
  }
});

const allLimits = { ...limits, batchFileRetentionDays: 30, uploadTtlMs: 3_600_000 };

test("a project moves no more files at one time than it may, and holds up nobody else", async () => {
  const { files } = client();
  const file = await files.create({
    file: await toFile(bytesOf(600_000), "a"),
    purpose: "user_data",
  });
  const read = () =>
    gateway.app.fetch(
      new Request(`http://gateway/v1/files/${file.id}/content`, {
        headers: { authorization: `Bearer ${keyOf("acme")}` },
      }),
    );
  const reading = await Promise.all(Array.from({ length: 6 }, read));
  expect((await read()).status).toBe(429);
  const upload = { file: await toFile(bytesOf(10), "b"), purpose: "user_data" as const };
  await expect(files.create(upload)).rejects.toMatchObject({ status: 429 });
  await client("other").files.create(upload);
  await reading[0]?.body?.cancel();
  expect(await (await read()).arrayBuffer()).toHaveProperty("byteLength", 600_000);
  for (const response of reading.slice(1)) await response.arrayBuffer();
  for (let i = 0; i < 8; i++) expect((await read()).status).toBe(i < 6 ? 200 : 429);
});

// PGlite has one session, in which nobody can hold up somebody else.
describe.skipIf(!process.env.TEST_DATABASE_URL)("on Postgres", () => {
  test("whatever is asked of files, uploads and batches ends in time when the database hangs, and holds no connection", async () => {
    const sql = database.connect();
    const quick = { ...allLimits, fileStoreTimeoutMs: 200, fileMoveTimeoutMs: 300 };
    const options = { sql, now: () => nowMs, limits: quick };
    const files = new FileStore(options);
    const uploads = new UploadStore({ ...options, files });
    const limits = { ...quick, projectBatchesMax: 10, batchLeaseMs: 30_000 };
    const batches = new BatchStore({ ...options, files, limits });
    const facts = { purpose: "batch", filename: "a", expiresAfter: undefined } as const;
    const draft = await files.begin("proj_a");
    await draft.write(one());
    const file = await draft.publish(facts);
    const upload = await uploads.create("proj_a", { ...facts, bytes: 3, mimeType: "" });
    const of = { projectId: "proj_a", id: upload.id };
    const part = await uploads.addPart(of, one());
    const newBatch = {
      ...{ projectId: "proj_a", keyId: newId("key"), endpoint: "/v1/embeddings" },
      ...{ inputFileId: file.id, completionWindow: "24h", windowMs: dayMs, metadata: undefined },
      ...{ outputExpiresAfter: undefined, tags: undefined, task: undefined },
    };
    const batch = await batches.create(newBatch);
    const lease = await BatchLease.claim({ ...options, limits });
    if (!lease) throw new Error("the batch is nobody's");
    const open = await files.begin("proj_a");
    const questions: Record<string, () => Promise<unknown>> = {
      begin: () => files.begin("proj_a"),
      write: () => open.write(one()),
      publish: () => open.publish(facts),
      discard: () => open.discard(),
      get: () => files.get("proj_a", file.id),
      list: () => files.list("proj_a", { limit: 1, order: "asc" }),
      read: () => files.read(file.id).next(),
      delete: () => files.delete("proj_a", file.id),
      sweep: () => files.sweep(),
      "upload, create": () => uploads.create("proj_a", { ...facts, bytes: 3, mimeType: "" }),
      "upload, add": () => uploads.addPart(of, one()),
      "upload, complete": () => uploads.complete(of, { partIds: [part.id] }),
      "upload, cancel": () => uploads.cancel(of),
      "upload, sweep": () => uploads.sweep(),
      "batch, create": () => batches.create(newBatch),
      "batch, get": () => batches.get("proj_a", batch.id),
      "batch, list": () => batches.list("proj_a", { limit: 1 }),
      "batch, cancel": () => batches.cancel("proj_a", batch.id),
      claim: () => BatchLease.claim({ ...options, limits }),
      waiting: () => BatchLease.isAnyWaiting({ sql, limits }, []),
      renew: () => lease.renew(),
      begun: () => lease.begin({ total: 1, model: undefined }),
      fail: () => lease.fail([]),
      lines: () => lease.finishedLines(),
      keep: () => lease.keep({ line: 1, succeeded: true, content: "{}" }),
      finalize: () => lease.finalize(),
      results: () => lease.results({ succeeded: true }).next(),
      end: () =>
        lease.end("completed", async () => ({ outputFileId: undefined, errorFileId: undefined })),
      release: () => lease.release(),
    };
    await database.sql.begin(async (locking) => {
      await locking`lock table gateway.files, gateway.file_chunks, gateway.uploads,
        gateway.upload_parts, gateway.batches, gateway.batch_results in access exclusive mode`;
      for (const [name, ask] of Object.entries(questions)) {
        const told = await ask().then(
          () => "answered",
          (error) => error.code,
        );
        expect([name, told]).toEqual([name, "database_unavailable"]);
      }
      expect(await sql`select 1 as free`).toEqual([{ free: 1 }]);
    });
    expect(await files.get("proj_a", file.id)).toEqual(file);
  });
});

async function* one() {
  yield Buffer.from("abc");
}
