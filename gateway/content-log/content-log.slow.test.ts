import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentLogSetting } from "../../sdk/protocol/content-log.ts";
import {
  type LoggedGateway,
  logKeys,
  openLoggedGateway,
} from "../../test/support/logged-gateway.ts";
import type { OpenedGateway } from "../open-gateway.ts";

const masterKey = randomBytes(32).toString("base64");
const prompt = "Zeg iets tegen ada@example.com.";
const chat = { messages: [{ role: "user", content: prompt }] };
const dayMs = 24 * 60 * 60_000;

let stage: LoggedGateway;
let clockMs = Date.now();
let drawn = 0;
beforeAll(async () => {
  stage = await openLoggedGateway({
    contentLogKey: `one:${masterKey}`,
    acme: { contentLog: contentLogSetting.parse({ share: 0.5, retentionDays: 10 }) },
    limits: { contentBytesMax: 2000, contentStreamBytesMax: 20_000, contentSweepMs: 3_600_000 },
    emulated: { answer: ({ messages }) => `Gezegd: ${String(messages.at(-1)?.content)}` },
    now: () => clockMs,
    random: () => drawn,
  });
});
afterAll(() => stage.close());

describe("a project that consents", () => {
  test("has both sides of its requests kept, streamed or not, without what identifies people", async () => {
    for (const stream of [false, true]) {
      const id = await stage.chat(logKeys.acme, { ...chat, stream });
      const { body } = await read(id);
      expect(body).toMatchObject({
        id,
        object: "request.content",
        project_id: stage.policy.projects[0]?.id,
        dialect: "openai-chat",
        stream,
        complete: true,
        truncated: false,
        redacted: { EMAIL: 2 },
        prompt: { model: "gpt-test", messages: [{ content: "Zeg iets tegen [EMAIL]." }] },
      });
      expect(textOf(body)).toBe("Gezegd: Zeg iets tegen [EMAIL].");
      expect(Date.parse(body.expires_at) - Date.parse(body.at)).toBe(10 * dayMs);
    }
  });

  test("has nothing in plain text in the database", async () => {
    await stage.chat(logKeys.acme, { messages: [{ role: "user", content: "geheim-merk-77" }] });
    await read("req_0");
    const { sql } = stage.database;
    const tables = await sql`
      select table_schema || '.' || table_name as name from information_schema.tables
      where table_schema in ('billing', 'gateway')`;
    for (const { name } of tables) {
      const rows = await sql.unsafe(`select t::text as row from ${name} t`);
      for (const { row } of rows) expect(row, name).not.toContain("geheim-merk-77");
      // What is bytes is told in hex.
      const hex = Buffer.from("geheim-merk-77").toString("hex");
      for (const { row } of rows) expect(row, name).not.toContain(hex);
    }
  });

  test("keeps the share of them that it wants", async () => {
    drawn = 0.5;
    const left = await stage.chat(logKeys.acme, chat);
    drawn = 0.49;
    const kept = await stage.chat(logKeys.acme, chat);
    drawn = 0;
    expect((await read(left)).status).toBe(404);
    expect((await read(kept)).status).toBe(200);
  });

  test("has the beginning of what is too long, and is told so", async () => {
    const content = `${"woord ".repeat(400)}einde`;
    for (const stream of [false, true]) {
      const id = await stage.chat(logKeys.acme, { messages: [{ role: "user", content }], stream });
      const { body } = await read(id);
      expect(body.truncated).toBe(true);
      expect(body.prompt.messages[0].content).toMatch(/^woord woord/);
      expect(JSON.stringify(body.prompt).length).toBeLessThan(2100);
      expect(JSON.stringify(body)).not.toContain("einde");
      expect(textOf(body)).toMatch(/^Gezegd: woord woord/);
    }
  });

  test("has what was sent of a request that failed, and what came of one that was left", async () => {
    const failed = await stage.chat(logKeys.acme, { ...chat, model: "broken" });
    expect((await read(failed)).body).toMatchObject({ complete: false, answer: null });
    const messages = [{ role: "user", content: "lang ".repeat(20_000) }];
    const response = await stage.ask(logKeys.acme, "/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-test", stream: true, messages }),
    });
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    const { body } = await read(response.headers.get("x-request-id") ?? "");
    expect(body.complete).toBe(false);
    expect(textOf(body)).toMatch(/^Gezegd/);
  });

  test("keeps nothing of what was refused before it was sent", async () => {
    const refused = await stage.chat(logKeys.acme, { ...chat, model: "nothing" });
    expect((await read(refused)).status).toBe(404);
  });
});

test("a project that does not consent has nothing kept, and does not fill the memory", async () => {
  const id = await stage.chat(logKeys.other, chat);
  expect((await read(id)).status).toBe(404);
  const { sql } = stage.database;
  const foreign = await sql`
    select 1 from gateway.request_contents where project_id = ${projectId("other")}`;
  expect(foreign.count).toBe(0);
  const metrics = await (await stage.ask(logKeys.other, "/metrics")).text();
  expect(metrics).toMatch(/^gateway_contents_bytes 0$/m);
});

describe("who may read and delete", () => {
  test("is no project's key, its own project's neither, whether there is anything or not", async () => {
    const id = await stage.chat(logKeys.acme, chat);
    const path = `/api/requests/${id}/content`;
    const all = `/api/contents?project=${projectId("acme")}`;
    for (const key of [logKeys.acme, logKeys.other]) {
      for (const [method, where] of [
        ["GET", path],
        ["DELETE", path],
        ["GET", "/api/requests/req_00000000000000000000000000/content"],
        ["DELETE", all],
      ] as const) {
        expect((await stage.ask(key, where, { method })).status, `${method} ${where}`).toBe(403);
      }
    }
    expect((await read(id)).status).toBe(200);
    expect((await stage.ask("sk-sy-nobody", path)).status).toBe(401);
  });

  test("is noted before it is done, and what cannot be noted is not done", async () => {
    const id = await stage.chat(logKeys.acme, chat);
    await read(id);
    const noted = stage.registry.requests.at(-1);
    expect(new URL(noted?.url ?? "").pathname).toBe("/api/events");
    stage.registry.down = true;
    try {
      expect((await read(id)).status).toBe(503);
      expect((await forget(`/api/requests/${id}/content`)).status).toBe(503);
      expect((await forget(`/api/contents?project=${projectId("acme")}`)).status).toBe(503);
    } finally {
      stage.registry.down = false;
    }
    expect((await read(id)).status).toBe(200);
  });
});

describe("what is forgotten", () => {
  test("is one request's", async () => {
    const [gone, stays] = [
      await stage.chat(logKeys.acme, chat),
      await stage.chat(logKeys.acme, chat),
    ];
    expect((await forget(`/api/requests/${gone}/content`)).status).toBe(200);
    expect((await forget(`/api/requests/${gone}/content`)).status).toBe(404);
    expect((await read(gone)).status).toBe(404);
    expect((await read(stays)).status).toBe(200);
  });

  test("is all of one end user, what waits to be written included", async () => {
    const ada = [];
    for (let index = 0; index < 5; index++) {
      ada.push(await stage.chat(logKeys.acme, { ...chat, user: "ada" }));
    }
    const bob = await stage.chat(logKeys.acme, { ...chat, user: "bob" });
    const told = await forget(`/api/contents?project=${projectId("acme")}&user=ada`);
    expect(told).toMatchObject({ status: 200, body: { deleted: 5 } });
    for (const id of ada) expect((await read(id)).status).toBe(404);
    expect((await read(bob)).status).toBe(200);
    expect((await forget("/api/contents?user=ada")).status).toBe(400);
    const long = "a".repeat(300);
    const hers = await stage.chat(logKeys.acme, { ...chat, user: long });
    const rows = await stage.ask(logKeys.acme, `/api/requests?user=${long}`);
    expect(await rows.json()).toMatchObject({ data: [{ id: hers }] });
    const path = `/api/contents?project=${projectId("acme")}&user=${long}`;
    expect(await forget(path)).toMatchObject({ status: 200, body: { deleted: 1 } });
    expect((await read(hers)).status).toBe(404);
  });

  test("is all of a project, with its keys; and what it says later is kept again", async () => {
    const before = await stage.chat(logKeys.acme, chat);
    expect((await read(before)).status).toBe(200);
    const { sql } = stage.database;
    const rows = await sql`select * from gateway.request_contents where request_id = ${before}`;
    expect((await forget(`/api/contents?project=${projectId("acme")}`)).status).toBe(200);
    expect((await read(before)).status).toBe(404);
    expect((await sql`select 1 from gateway.content_keys`).count).toBe(0);
    // A copy of the row from elsewhere, such as a backup, is noise without its key.
    await sql`insert into gateway.request_contents ${sql(rows)}`;
    expect((await read(before)).status).toBe(404);
    const after = await stage.chat(logKeys.acme, chat);
    expect((await read(after)).status).toBe(200);
  });

  test("is what another gateway seals with a key that was deleted meanwhile", async () => {
    const second = await stage.another();
    const first = await stage.chat(logKeys.acme, chat, second);
    expect((await read(first, second)).status).toBe(200);
    await stage.database.sql`delete from gateway.content_keys`;
    const lost = await stage.chat(logKeys.acme, chat, second);
    expect((await read(lost, second)).status).toBe(404);
    const kept = await stage.chat(logKeys.acme, chat, second);
    expect((await read(kept, second)).status).toBe(200);
    const metrics = await (await stage.ask(logKeys.acme, "/metrics", {}, second)).text();
    expect(metrics).toContain('gateway_contents_dropped{reason="key_gone"} 1');
    // The first one's key is gone too; its next is a new one.
    await stage.chat(logKeys.acme, chat);
    await read("req_0");
  });
});

describe("a row", () => {
  test("that was changed, or put in another's place, is not opened", async () => {
    const ids = [await stage.chat(logKeys.acme, chat), await stage.chat(logKeys.acme, chat)];
    for (const id of ids) expect((await read(id)).status).toBe(200);
    const [one, two] = ids as [string, string];
    const { sql } = stage.database;
    await sql`
      update gateway.request_contents set sealed = (
        select sealed from gateway.request_contents where request_id = ${two})
      where request_id = ${one}`;
    await sql`
      update gateway.request_contents set sealed = set_byte(sealed, 40, 255 - get_byte(sealed, 40))
      where request_id = ${two}`;
    for (const id of ids) {
      const { status, body } = await read(id);
      expect(status).toBe(500);
      expect(body.error).toMatchObject({ code: "content_unreadable" });
      expect(body.error.message).toContain("seal is broken");
    }
    // Nor as another project's.
    const moved = await stage.chat(logKeys.acme, chat);
    expect((await read(moved)).status).toBe(200);
    await sql`
      update gateway.request_contents set project_id = ${projectId("other")}
      where request_id = ${moved}`;
    expect((await read(moved)).body.error.code).toBe("content_unreadable");
  });

  test("is opened by whoever has the master key, by its old one too, and then sealed by the new", async () => {
    const id = await stage.chat(logKeys.acme, chat);
    expect((await read(id)).status).toBe(200);
    const newKey = randomBytes(32).toString("base64");
    const stranger = await stage.another({ contentLogKey: `two:${newKey}` });
    const refused = await read(id, stranger);
    expect(refused.status).toBe(500);
    expect(refused.body.error.message).toContain("'one'");
    const impostor = await stage.another({ contentLogKey: `one:${newKey}` });
    expect((await read(id, impostor)).body.error.message).toContain("seal is broken");

    const rotating = await stage.another({
      contentLogKey: `two:${newKey},one:${masterKey}`,
      limits: { contentSweepMs: 50 },
    });
    expect((await read(id, rotating)).status).toBe(200);
    await expect.poll(async () => (await read(id, stranger)).status, { timeout: 30_000 }).toBe(200);
    const { sql } = stage.database;
    const old = async () =>
      (await sql`select 1 from gateway.content_keys where master_key_id = 'one'`).count;
    await expect.poll(old, { timeout: 30_000 }).toBe(0);
    await rotating.stop();
    // So that the others find their key again.
    await sql`delete from gateway.content_keys`;
    await stage.chat(logKeys.acme, chat);
    await read("req_0");
  });
});

test("without a database contents wait within their bound, and requests go on", async () => {
  const nowhere = postgres({ host: "127.0.0.1", port: 1, max: 1, backoff: () => 0.01 });
  const cut = await stage.another({ sql: nowhere, limits: { contentsBytesMax: 8000 } });
  const before = stage.emulator.requests.length;
  for (let index = 0; index < 30; index++) await stage.chat(logKeys.acme, chat, cut);
  expect(stage.emulator.requests.length - before).toBe(30);
  const told = async (name: string) => {
    const metrics = await (await stage.ask(logKeys.acme, "/metrics", {}, cut)).text();
    return Number(
      metrics
        .split("\n")
        .find((line) => line.startsWith(name))
        ?.split(" ")
        .at(-1),
    );
  };
  expect(await told("gateway_contents_bytes")).toBeGreaterThan(0);
  expect(await told("gateway_contents_bytes")).toBeLessThanOrEqual(8000);
  expect(await told('gateway_contents_dropped{reason="no_room"}')).toBeGreaterThan(5);
  expect(await told("gateway_contents_kept")).toBe(0);
  const { status, body } = await read("req_00000000000000000000000000", cut);
  expect([status, body.error.code]).toEqual([503, "database_unavailable"]);
  await cut.stop();
  await nowhere.end({ timeout: 1 });
});

test("what has expired is not read, and goes; a shorter time holds for what is there", async () => {
  const { sql } = stage.database;
  await sql`delete from gateway.request_contents`;
  const old = [];
  for (let index = 0; index < 7; index++) old.push(await stage.chat(logKeys.acme, chat));
  expect((await read(old[0] ?? "")).status).toBe(200);
  clockMs += 3 * dayMs;
  const young = await stage.chat(logKeys.acme, chat);
  expect((await read(young)).status).toBe(200);

  const sweeping = { contentSweepMs: 50, contentRowsMax: 2 };
  const second = await stage.another({ limits: sweeping });
  const left = async () => (await sql`select 1 from gateway.request_contents`).count;
  const shorter = { contentLog: contentLogSetting.parse({ retentionDays: 2 }) };
  stage.registry.publish({
    ...stage.policy,
    version: stage.policy.version + 1,
    projects: stage.policy.projects.map((it) => (it.name === "acme" ? { ...it, ...shorter } : it)),
  });
  await second.refresh();
  await expect.poll(left, { timeout: 30_000 }).toBe(1);
  for (const id of old) expect((await read(id)).status).toBe(404);
  const { body } = await read(young);
  expect(Date.parse(body.expires_at) - Date.parse(body.at)).toBe(2 * dayMs);

  clockMs += 2 * dayMs;
  expect((await read(young)).status).toBe(404);
  await expect.poll(left, { timeout: 30_000 }).toBe(0);
  clockMs += 2 * dayMs;
  const keys = async () => (await sql`select 1 from gateway.content_keys`).count;
  await expect.poll(keys, { timeout: 30_000 }).toBe(0);
  await second.stop();
});

test("what waits takes its room where only answers are kept, and where the request failed", async () => {
  const { policy } = stage;
  const answers = { contentLog: contentLogSetting.parse({ parts: ["answer"] }) };
  stage.registry.publish({
    ...policy,
    version: policy.version + 2,
    projects: policy.projects.map((it) => (it.name === "acme" ? { ...it, ...answers } : it)),
  });
  const nowhere = postgres({ host: "127.0.0.1", port: 1, max: 1, backoff: () => 0.01 });
  const cut = await stage.another({ sql: nowhere, limits: { contentFlushMs: 600_000 } });
  const bytes = async () => {
    const metrics = await (await stage.ask(logKeys.acme, "/metrics", {}, cut)).text();
    return Number(/^gateway_contents_bytes (\d+)$/m.exec(metrics)?.[1]);
  };
  const messages = [{ role: "user", content: "lang ".repeat(20_000) }];
  await stage.chat(logKeys.acme, { messages }, cut);
  expect(await bytes()).toBeGreaterThan(100_000);
  const before = await bytes();
  await stage.chat(logKeys.acme, { ...chat, model: "broken" }, cut);
  expect((await bytes()) - before).toBeGreaterThan(1024);
  await cut.stop();
  await nowhere.end({ timeout: 1 });
});

// biome-ignore lint/suspicious/noExplicitAny: a body of any shape, which the tests look into.
type Told = { status: number; body: any };

async function read(id: string, through?: OpenedGateway): Promise<Told> {
  const response = await stage.ask(logKeys.admin, `/api/requests/${id}/content`, {}, through);
  return { status: response.status, body: await response.json() };
}

async function forget(path: string): Promise<Told> {
  const response = await stage.ask(logKeys.admin, path, { method: "DELETE" });
  return { status: response.status, body: await response.json() };
}

function textOf(body: Told["body"]): string {
  if (body.answer.text !== undefined) return body.answer.text;
  return body.answer.choices[0].parts.map(({ text }: { text: string }) => text).join("");
}

function projectId(name: "acme" | "other"): string {
  return stage.policy.projects.find((it) => it.name === name)?.id ?? "";
}
