/** Budgets as an operator declares them and clients meet them: over HTTP, in a process as it is run. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { type ApiAnswer, call, createTenant, eventually } from "../support/api.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type SettingsFile, writeSettings } from "../support/settings.ts";

const posted: unknown[] = [];
/** What comes while the webhook takes nothing. */
const refused: unknown[] = [];
let isTaking = true;
const webhook = createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  (isTaking ? posted : refused).push(JSON.parse(text));
  response.writeHead(isTaking ? 200 : 503).end();
});
let emulator: OpenAiEmulator;
let settings: SettingsFile;
let server: RunningServer;

beforeAll(async () => {
  await new Promise<void>((resolve) => webhook.listen(0, "127.0.0.1", resolve));
  emulator = await startOpenAiEmulator({ answer: () => "five words are said here" });
  settings = await writeSettings({
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    models: [
      { id: "dear-model", upstream: "emulated", prices: { input: "1", output: "10" } },
      { id: "cent-a-token", upstream: "emulated", prices: { input: "10000", output: "10000" } },
    ],
  });
  const { port } = webhook.address() as AddressInfo;
  server = await startServer({
    env: {
      SWITCHYARD_CONFIG: settings.path,
      SWITCHYARD_BUDGET_ALERT_URL: `http://127.0.0.1:${port}/alerts`,
    },
  });
});
afterAll(async () => {
  await server?.stop();
  await settings?.remove();
  await emulator?.close();
  webhook.close();
});

test("an end user's budget refuses that user alone; shares are told once, listed and posted", async () => {
  const tenant = await createTenant(server.url, server.adminKey, "budgeted", {
    budgets: [
      { limitUsd: "0.0004", period: "week", timeZone: "Europe/Berlin", each: ["user"] },
      { limitUsd: "0.00001", period: "quarter", hard: false, alertAt: [0.5, 1] },
    ],
  });
  const ask = (user: string): Promise<ApiAnswer> =>
    call(server.url, tenant.key, "POST", "/v1/chat/completions", {
      model: "dear-model",
      max_tokens: 16,
      user,
      messages: [{ role: "user", content: "hello" }],
    });
  const refused = await eventually("ada's budget to be spent", async () => {
    const answer = await ask("ada");
    return answer.status === 200 ? undefined : answer;
  });
  expect(refused).toMatchObject({
    status: 429,
    body: { error: { code: "insufficient_quota", type: "insufficient_quota" } },
  });
  expect(JSON.stringify(refused.body)).toMatch(/for user 'ada'.*is spent.*It resets at/);
  expect((await ask("bob")).status).toBe(200);

  const mine = await call(server.url, tenant.key, "GET", "/api/budgets");
  expect(mine.body).toMatchObject({
    object: "list",
    has_more: false,
    data: [
      { scope: "project", end_user: "ada", held_usd: "0", limit_usd: "0.0004" },
      { scope: "project", end_user: "bob" },
      { scope: "project", end_user: null, budget: { hard: false } },
    ],
  });
  const told = await call(server.url, tenant.key, "GET", "/api/budgets/alerts");
  expect(told.body).toMatchObject({ data: [{ share: 1 }, { share: 0.5 }], has_more: false });
  await eventually("both alerts to be posted", async () => posted.length === 2 || undefined);
  expect(posted).toMatchObject([{ share: 0.5 }, { share: 1, scope_id: tenant.projectId }]);
  expect(await (await fetch(`${server.url}/metrics`)).text()).toContain(
    'gateway_budget_alerts{scope="project",share="0.5"} 1',
  );

  // Another project sees nothing of them.
  const other = await createTenant(server.url, server.adminKey, "other", {});
  for (const path of ["/api/budgets", "/api/budgets/alerts"]) {
    const seen = await call(server.url, other.key, "GET", path);
    expect(seen.body).toMatchObject({ data: [], has_more: false });
  }
});

test("a month's spending is told where OpenAI's client set a spend alert, with whom to write to", async () => {
  const { projectId: id, key } = await createTenant(server.url, server.adminKey, "alerted", {
    budgets: [{ limitUsd: "1000", period: "month" }],
  });
  const { organization } = new OpenAI({
    adminAPIKey: server.adminKey,
    apiKey: "unused",
    baseURL: `${server.url}/v1`,
  }).admin;
  const body = (cents: number, recipients: string[]) =>
    ({
      currency: "USD",
      interval: "month",
      threshold_amount: cents,
      notification_channel: { type: "email", recipients, subject_prefix: "[llm]" },
    }) as const;
  const low = await organization.projects.spendAlerts.create(id, body(5, ["ops@example.com"]));
  await organization.projects.spendAlerts.create(id, body(1_000_000, ["cfo@example.com"]));
  const all = await organization.spendAlerts.create(body(1, ["board@example.com"]));
  const before = posted.length;
  const spend = () =>
    call(server.url, key, "POST", "/v1/chat/completions", {
      model: "cent-a-token",
      max_tokens: 16,
      messages: [{ role: "user", content: "hello" }],
    });
  expect((await spend()).status).toBe(200);
  expect((await spend()).status).toBe(200);
  const news = await eventually("both alerts to be posted", async () => {
    const found = posted.slice(before) as { spend_alert?: { id: string } }[];
    return found.length >= 2 ? found : undefined;
  });
  const byId = (alert: { id: string }) => news.find((it) => it.spend_alert?.id === alert.id);
  expect(news).toHaveLength(2);
  expect(byId(low)).toMatchObject({
    object: "budget_alert",
    scope: "project",
    scope_id: id,
    share: 1,
    limit_usd: "0.05",
    budget: { limitUsd: "0.05", period: "month", hard: false },
    spend_alert: { recipients: ["ops@example.com"], subject_prefix: "[llm]" },
  });
  expect(byId(all)).toMatchObject({ scope: "organization", limit_usd: "0.01" });
  const listed = await call(server.url, key, "GET", "/api/budgets/alerts");
  expect(listed.body).toMatchObject({ data: [{ spend_alert: { id: low.id } }] });
  // The budget that refuses stays what it was, and the one that only counts is no budget of theirs.
  const budgets = await call(server.url, key, "GET", "/api/budgets");
  expect((budgets.body as { data: object[] }).data).toMatchObject([{ limit_usd: "1000" }]);
  await organization.spendAlerts.delete(all.id);
});

test("an alert that a server was killed before it could post is posted by the next one", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-killed-"));
  const { port } = webhook.address() as AddressInfo;
  const env = {
    SWITCHYARD_CONFIG: settings.path,
    SWITCHYARD_BUDGET_ALERT_URL: `http://127.0.0.1:${port}/alerts`,
  };
  try {
    isTaking = false;
    const killed = await startServer({ dataDir, env });
    const tenant = await createTenant(killed.url, killed.adminKey, "killed", {
      budgets: [{ limitUsd: "0.01", period: "month", hard: false, alertAt: [0.5] }],
    });
    const ask = { model: "cent-a-token", max_tokens: 16 };
    const messages = [{ role: "user", content: "hello" }];
    const path = "/v1/chat/completions";
    const answer = await call(killed.url, tenant.key, "POST", path, { ...ask, messages });
    expect(answer.status).toBe(200);
    await eventually("the first attempt", async () => refused.length > 0 || undefined);
    await killed.kill();
    isTaking = true;
    const next = await startServer({ dataDir, env });
    const isMine = (it: unknown) => (it as { scope_id: string }).scope_id === tenant.projectId;
    // What was under way in the kill is left to its end first.
    const mine = await eventually("the alert", async () => posted.find(isMine), 60_000);
    expect(mine).toEqual(refused[0]);
    await eventually("the alert to count as posted", async () => {
      const { body } = await call(next.url, tenant.key, "GET", "/api/budgets/alerts");
      return (body as { data: { posted_at: string | null }[] }).data[0]?.posted_at ?? undefined;
    });
    await next.stop();
  } finally {
    isTaking = true;
    await rm(dataDir, { recursive: true, force: true });
  }
});

test("the organisation's budget bounds every project, and only admins declare and see it", async () => {
  const body = { budgets: [{ limitUsd: "0.00000001", period: "year" }] };
  const tenant = await createTenant(server.url, server.adminKey, "bounded", {});
  const denied = await call(server.url, tenant.key, "PUT", "/api/organization", body);
  expect(denied.status).toBe(403);
  const declared = await call(server.url, server.adminKey, "PUT", "/api/organization", body);
  expect(declared).toMatchObject({ status: 200, body });
  const answer = await call(server.url, tenant.key, "POST", "/v1/chat/completions", {
    model: "dear-model",
    messages: [{ role: "user", content: "hello" }],
  });
  expect(answer.status).toBe(429);
  expect(JSON.stringify(answer.body)).toContain("The budget of organization");
  const all = await call(server.url, server.adminKey, "GET", "/api/budgets?limit=1");
  expect(all.body).toMatchObject({ data: [{ scope: "organization" }], has_more: true });
});
