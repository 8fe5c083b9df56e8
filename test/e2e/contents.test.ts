/** Prompts and answers of a project that consents: kept sealed, read by administrators, and of a crash's harm to nobody. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { call, createTenant, eventually, type Tenant } from "../support/api.ts";
import { type Cli, openCli } from "../support/cli.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { writeSettings } from "../support/settings.ts";

const prompt = "prompt-mark-3f8a6c21 from ada@example.com";
const answer = "answer-mark-77d0e9b4";
const key = randomBytes(32).toString("base64");
let emulator: OpenAiEmulator;
let settings: Awaited<ReturnType<typeof writeSettings>>;
let dataDir: string;
let server: RunningServer;
let cli: Cli;
let alice: Tenant;
let bob: Tenant;

beforeAll(async () => {
  emulator = await startOpenAiEmulator({ answer: () => answer });
  settings = await writeSettings({
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    models: [{ id: "gpt", upstream: "emulated" }],
  });
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-contents-"));
  await start({ CONTENT_LOG_KEY: key });
  alice = await createTenant(server.url, server.adminKey, "alice");
  bob = await createTenant(server.url, server.adminKey, "bob");
  await cli.json("projects", "update", "alice", "--content-log", "30");
});
afterAll(async () => {
  await server?.stop();
  await emulator.close();
  await settings.remove();
  await rm(dataDir, { recursive: true, force: true });
});

test("the command line shows what was said, and the audit log who looked", async () => {
  const id = await ask(alice);
  const shown = await cli.run("logs", "show", id, "--content");
  expect(shown.stdout).toContain("prompt-mark-3f8a6c21 from [EMAIL]");
  expect(shown.stdout).toContain(answer);
  expect(shown.stdout).toContain("taken out: EMAIL×1");
  const without = await cli.run("logs", "show", id);
  expect(without.stdout).toContain("call       gpt at emulated");
  expect(without.stdout).not.toContain("mark");
  const { body } = await call(
    server.url,
    server.adminKey,
    "GET",
    `/v1/organization/audit_logs?resource_ids[]=${id}`,
  );
  expect((body as { data: object[] }).data).toMatchObject([
    {
      type: "content.read",
      project: { id: alice.projectId },
      actor: { type: "api_key", api_key: { ip_address: "127.0.0.1" } },
    },
  ]);
});

test("a search by project, key, model, status and time finds the request, on the command line too", async () => {
  const id = await ask(alice);
  const found = await eventually("the request", async () => {
    const { stdout } = await cli.run(
      ...["logs", "--json", "--project", "alice", "--model", "gpt", "--status", "2xx"],
      ...["--from", new Date(Date.now() - 600_000).toISOString()],
    );
    return stdout.includes(id) ? stdout : undefined;
  });
  const row = JSON.parse(found.split("\n").find((line) => line.includes(id)) ?? "");
  const byKey = await cli.run("logs", "--json", "--key", row.key_id);
  expect(byKey.stdout).toContain(id);
  expect((await cli.run("logs", "--json", "--task", "none-such")).stdout).toBe("");
});

test("neither tenant reads, deletes or changes what is kept of the other, or of itself", async () => {
  const id = await ask(alice);
  for (const tenant of [alice, bob]) {
    for (const [method, path, body] of [
      ["GET", `/api/requests/${id}/content`],
      ["DELETE", `/api/requests/${id}/content`],
      ["DELETE", `/api/contents?project=${alice.projectId}`],
      ["DELETE", `/api/contents?project=${alice.projectId}&user=ada`],
      ["PATCH", `/api/projects/${alice.projectId}`, { contentLog: null }],
      ["PATCH", `/api/projects/${bob.projectId}`, { contentLog: {} }],
      [
        "POST",
        "/api/events",
        { type: "content.read", subject: id, projectId: bob.projectId, actor: "me" },
      ],
    ] as const) {
      const { status } = await call(server.url, tenant.key, method, path, body);
      expect(status, `${method} ${path}`).toBe(403);
    }
  }
  // Whether content is kept is told with the request, and so to its own project alone.
  expect((await call(server.url, bob.key, "GET", `/api/requests/${id}`)).status).toBe(404);
  expect(
    (await call(server.url, server.adminKey, "GET", `/api/requests/${id}/content`)).status,
  ).toBe(200);
  const admins = await call(server.url, server.adminKey, "POST", "/api/events", {});
  expect(admins.status).toBe(403);
});

test("after a kill the ledger has the request, its content opens or is not there, and no file has a word of it", async () => {
  const ids = [await ask(alice)];
  // Contents are written a moment after their answers: one is there, of the others nobody knows.
  await eventually("a content that is kept", async () => {
    const path = `/api/requests/${ids[0]}/content`;
    return (await call(server.url, server.adminKey, "GET", path)).status === 200 || undefined;
  });
  for (let index = 0; index < 20; index++) ids.push(await ask(alice));
  await server.kill();
  const files = await textsIn(dataDir);
  expect(files.length).toBeGreaterThan(10);
  for (const { where, text } of files) {
    for (const mark of ["prompt-mark-3f8a6c21", answer]) {
      expect(text.includes(mark), `${mark} in ${where}`).toBe(false);
    }
  }
  await start({ CONTENT_LOG_KEY: key });
  let kept = 0;
  for (const id of ids) {
    await eventually(`${id} in the ledger`, async () => {
      const { status } = await call(server.url, server.adminKey, "GET", `/api/requests/${id}`);
      return status === 200 || undefined;
    });
    const { status, body } = await call(
      server.url,
      server.adminKey,
      "GET",
      `/api/requests/${id}/content`,
    );
    expect([200, 404]).toContain(status);
    if (status === 200) kept++;
    if (status === 200) expect(JSON.stringify(body)).toContain(answer);
  }
  expect(kept).toBeGreaterThan(0);
  expect(await cli.json("logs", "forget", "--project", "alice")).toMatchObject({
    deleted: expect.any(Number),
  });
  const left = await call(server.url, server.adminKey, "GET", `/api/requests/${ids[0]}/content`);
  expect(left.status).toBe(404);
});

test("without a key nobody can consent, nothing is kept of who did, and all else goes on", async () => {
  await server.stop();
  await start({});
  const refused = await call(
    server.url,
    server.adminKey,
    "PATCH",
    `/api/projects/${bob.projectId}`,
    { contentLog: {} },
  );
  expect(refused).toMatchObject({
    status: 400,
    body: { error: { code: "invalid_value", param: "contentLog" } },
  });
  expect(JSON.stringify(refused.body)).toContain("CONTENT_LOG_KEY");
  const made = await call(server.url, server.adminKey, "POST", "/api/projects", {
    name: "carol",
    contentLog: {},
  });
  expect(made.status).toBe(400);
  const id = await ask(alice);
  const none = await call(server.url, server.adminKey, "GET", `/api/requests/${id}/content`);
  expect(none.status).toBe(404);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).toContain('gateway_contents_dropped{reason="no_key"} 1');
  // It can always be taken back.
  const off = ["--content-log", "0", "--response-cache", "0"];
  const project = await cli.json<object>("projects", "update", "alice", ...off);
  expect(project).not.toHaveProperty("contentLog");
});

async function start(env: Record<string, string>): Promise<void> {
  server = await startServer({ dataDir, env: { ...env, SWITCHYARD_CONFIG: settings.path } });
  cli = openCli({ SWITCHYARD_URL: server.url, SWITCHYARD_ADMIN_KEY: server.adminKey });
}

async function ask({ key }: Tenant): Promise<string> {
  const { status, headers } = await call(server.url, key, "POST", "/v1/chat/completions", {
    model: "gpt",
    messages: [{ role: "user", content: prompt }],
  });
  expect(status).toBe(200);
  return headers.get("x-request-id") ?? "";
}

/** Every file, the database's own included. */
async function textsIn(folder: string): Promise<{ where: string; text: string }[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((it) => it.isFile()).map((it) => join(it.parentPath, it.name));
  return Promise.all(
    paths.map(async (where) => ({ where, text: await readFile(where, "latin1") })),
  );
}
