/** OpenAI's own client manages projects, accounts, keys, limits and people. */
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openTestRegistry, type TestRegistry, tinyModel } from "../../test/support/registry.ts";

let registry: TestRegistry;
let organization: OpenAI["admin"]["organization"];
const clientOf = (adminAPIKey: string) =>
  new OpenAI({
    adminAPIKey,
    apiKey: "unused",
    baseURL: "http://registry/v1",
    maxRetries: 0,
    fetch: async (url, init) => registry.app.fetch(new Request(url as string, init)),
  }).admin.organization;
const whoami = (key: string) => registry.call(key, "GET", "/api/whoami");

beforeAll(async () => {
  registry = await openTestRegistry();
  organization = clientOf(registry.adminKey);
  await registry.call(registry.adminKey, "PUT", "/api/models/tiny", tinyModel);
  await registry.call(registry.adminKey, "PUT", "/api/models/small", {
    ...tinyModel,
    base: undefined,
  });
});
afterAll(() => registry.close());

describe("projects", () => {
  test("are made, renamed, listed page by page and archived, and an archived one's keys are refused", async () => {
    const made = await organization.projects.create({ name: "search" });
    expect(made).toMatchObject({
      object: "organization.project",
      name: "search",
      status: "active",
    });
    expect(made.archived_at).toBeNull();
    const renamed = await organization.projects.update(made.id, { name: "find" });
    expect(renamed.name).toBe("find");
    const { api_key: key } = await organization.projects.serviceAccounts.create(made.id, {
      name: "a",
    });
    expect((await whoami(key?.value ?? "")).body.projectId).toBe(made.id);

    const archived = await organization.projects.archive(made.id);
    expect(archived).toMatchObject({ status: "archived", archived_at: expect.any(Number) });
    expect((await whoami(key?.value ?? "")).status).toBe(403);
    const names = async (query: object) => {
      const all: string[] = [];
      for await (const project of organization.projects.list({ limit: 1, ...query }))
        all.push(project.name ?? "");
      return all;
    };
    expect(await names({})).toEqual(["default"]);
    expect((await names({ include_archived: true })).sort()).toEqual(["default", "find"]);
    expect((await organization.projects.retrieve(made.id)).status).toBe("archived");
  });

  test("of a taken name and unknown ones are refused as everywhere", async () => {
    await expect(organization.projects.create({ name: "default" })).rejects.toMatchObject({
      status: 409,
    });
    await expect(organization.projects.retrieve("proj_none")).rejects.toMatchObject({
      status: 404,
    });
  });

  test("a project's key manages nothing", async () => {
    await expect(clientOf(registry.apiKey).projects.list()).rejects.toMatchObject({ status: 403 });
    await expect(clientOf(registry.apiKey).auditLogs.list()).rejects.toMatchObject({ status: 403 });
    await expect(clientOf("sk-sy-wrong").projects.list()).rejects.toMatchObject({ status: 401 });
  });
});

describe("service accounts", () => {
  test("have keys of their own, which end with them", async () => {
    const project = registry.projectId;
    const accounts = organization.projects.serviceAccounts;
    const made = await accounts.create(project, { name: "crawler", expires_in_seconds: 3600 });
    const first = made.api_key;
    expect(first?.value).toMatch(/^sk-sy-/);
    expect((first?.expires_at ?? 0) - (first?.created_at ?? 0)).toBe(3600);
    const second = await accounts.apiKeys.create(made.id, { project_id: project, name: "second" });
    const other = await accounts.create(project, {
      name: "idle",
      create_service_account_only: true,
    });
    expect(other.api_key).toBeNull();

    const keys = organization.projects.apiKeys;
    const owned = await keys.retrieve(second.id, { project_id: project });
    expect(owned).toMatchObject({
      name: "second",
      owner: { type: "service_account", service_account: { id: made.id, name: "crawler" } },
    });
    expect(owned.redacted_value).toBe(`sk-sy-***${second.value.slice(-4)}`);
    expect(JSON.stringify(owned)).not.toContain(second.value);

    expect((await accounts.update(made.id, { project_id: project, name: "spider" })).name).toBe(
      "spider",
    );
    expect((await accounts.retrieve(made.id, { project_id: project })).name).toBe("spider");
    expect(await accounts.delete(made.id, { project_id: project })).toMatchObject({
      deleted: true,
    });
    expect((await whoami(first?.value ?? "")).status).toBe(401);
    expect((await whoami(second.value)).status).toBe(401);
    const listed = await accounts.list(project);
    expect(listed.data.map(({ name }) => name)).toEqual(["idle"]);
    const left = await keys.list(project);
    expect(left.data.map(({ id }) => id)).not.toContain(second.id);
    await expect(keys.retrieve(second.id, { project_id: project })).rejects.toMatchObject({
      status: 404,
    });
  });

  test("of another project do not exist", async () => {
    const other = await organization.projects.create({ name: "other" });
    const account = await organization.projects.serviceAccounts.create(other.id, {
      name: "theirs",
    });
    const here = { project_id: registry.projectId };
    const { serviceAccounts, apiKeys } = organization.projects;
    await expect(serviceAccounts.delete(account.id, here)).rejects.toMatchObject({ status: 404 });
    await expect(apiKeys.delete(account.api_key?.id ?? "", here)).rejects.toMatchObject({
      status: 404,
    });
    expect((await whoami(account.api_key?.value ?? "")).status).toBe(200);
  });
});

test("a key of a project is given another end, and revoked", async () => {
  const project_id = registry.projectId;
  const made = await organization.projects.serviceAccounts.create(project_id, { name: "short" });
  const id = made.api_key?.id ?? "";
  const changed = await organization.projects.apiKeys.update(id, {
    project_id,
    expires_in_seconds: 60,
  });
  expect(changed.expires_at).toBe(registry.clock.nowMs / 1000 + 60);
  expect(await organization.projects.apiKeys.delete(id, { project_id })).toEqual({
    id,
    object: "organization.project.api_key.deleted",
    deleted: true,
  });
  expect((await whoami(made.api_key?.value ?? "")).status).toBe(401);
});

test("admin keys are made, listed and revoked", async () => {
  const made = await organization.adminAPIKeys.create({ name: "terraform" });
  expect(made).toMatchObject({ object: "organization.admin_api_key", expires_at: null });
  expect((await whoami(made.value)).body.role).toBe("admin");
  const listed = await organization.adminAPIKeys.list();
  expect(listed.data.map(({ name }) => name)).toContain("terraform");
  expect(JSON.stringify(listed.data)).not.toContain(made.value);
  expect((await organization.adminAPIKeys.retrieve(made.id)).redacted_value).toMatch(
    /^sk-sy-admin-\*\*\*/,
  );
  await organization.adminAPIKeys.delete(made.id);
  expect((await whoami(made.value)).status).toBe(401);
});

describe("limits", () => {
  test("of a model are rules of the project, and the rest of its limits stays", async () => {
    const id = registry.projectId;
    const limits = {
      requestsPerMinute: 600,
      rules: [{ kind: "tokens", limit: 9, windowSeconds: 5 }],
    };
    await registry.call(registry.adminKey, "PATCH", `/api/projects/${id}`, { limits });
    const rates = organization.projects.rateLimits;
    const before = await rates.listRateLimits(id);
    expect(before.data).toEqual(
      ["small", "tiny"].map((model) => ({
        id: `rl-${model}`,
        object: "project.rate_limit",
        model,
        max_requests_per_1_minute: 600,
        max_tokens_per_1_minute: null,
      })),
    );
    for (const max of [10, 20]) {
      const changed = await rates.updateRateLimit("rl-tiny", {
        project_id: id,
        max_requests_per_1_minute: max,
        max_requests_per_1_day: 1000,
      });
      expect(changed).toMatchObject({
        max_requests_per_1_minute: max,
        max_requests_per_1_day: 1000,
      });
    }
    const project = await registry.call(registry.adminKey, "GET", `/api/projects/${id}`);
    expect(project.body.limits).toEqual({
      requestsPerMinute: 600,
      rules: [
        { kind: "tokens", limit: 9, windowSeconds: 5, each: [] },
        { kind: "requests", limit: 20, windowSeconds: 60, each: [], models: ["tiny"] },
        { kind: "requests", limit: 1000, windowSeconds: 86_400, each: [], models: ["tiny"] },
      ],
    });
    await expect(
      rates.updateRateLimit("rl-none", { project_id: id, max_requests_per_1_minute: 1 }),
    ).rejects.toMatchObject({ status: 404 });
    await expect(
      rates.updateRateLimit("rl-tiny", { project_id: id, max_images_per_1_minute: 1 }),
    ).rejects.toMatchObject({ status: 400, param: "max_images_per_1_minute" });
  });

  test("of spending are the project's budget by month, in cents", async () => {
    const id = registry.projectId;
    const spending = organization.projects.spendLimit;
    await expect(spending.retrieve(id)).rejects.toMatchObject({ status: 404 });
    const set = await spending.update(id, {
      currency: "USD",
      interval: "month",
      threshold_amount: 12_345,
    });
    expect(set).toMatchObject({ threshold_amount: 12_345, enforcement: { status: "enforcing" } });
    const project = await registry.call(registry.adminKey, "GET", `/api/projects/${id}`);
    expect(project.body.budgets).toEqual([{ limitUsd: "123.45", period: "month" }]);
    expect(await spending.retrieve(id)).toEqual(set);
    expect((await spending.delete(id)).deleted).toBe(true);
    await expect(spending.delete(id)).rejects.toMatchObject({ status: 404 });
  });

  test("of spending leave other budgets alone, and take the place of the single one by month", async () => {
    const { id } = await organization.projects.create({ name: "spending" });
    const put = (body: object) =>
      registry.call(registry.adminKey, "PATCH", `/api/projects/${id}`, body);
    const soft = { limitUsd: "1", period: "month", hard: false };
    await put({ budget: { limitUsd: "0.005", period: "month" }, budgets: [soft] });
    const spending = organization.projects.spendLimit;
    expect((await spending.retrieve(id)).threshold_amount).toBe(0.5);
    await spending.update(id, { currency: "USD", interval: "month", threshold_amount: 100 });
    const { body } = await registry.call(registry.adminKey, "GET", `/api/projects/${id}`);
    expect([body.budget, body.budgets]).toEqual([
      undefined,
      [soft, { limitUsd: "1", period: "month" }],
    ]);
  });

  test("of the organisation's spending are its budget by month", async () => {
    const { spendLimit } = organization;
    await spendLimit.update({ currency: "USD", interval: "month", threshold_amount: 500_000 });
    expect(await spendLimit.retrieve()).toMatchObject({
      object: "organization.spend_limit",
      threshold_amount: 500_000,
    });
    const { body } = await registry.call(registry.adminKey, "GET", "/api/organization");
    expect(body.budgets).toEqual([{ limitUsd: "5000", period: "month" }]);
    expect((await spendLimit.delete()).deleted).toBe(true);
    await expect(spendLimit.retrieve()).rejects.toMatchObject({ status: 404 });
  });
});

test("spend alerts of a project and of the organisation are made, changed, listed and removed", async () => {
  const { id } = await organization.projects.create({ name: "alerting" });
  const body = (cents: number) => ({
    currency: "USD" as const,
    interval: "month" as const,
    threshold_amount: cents,
    notification_channel: { type: "email" as const, recipients: ["ops@example.com"] },
  });
  const alerts = organization.projects.spendAlerts;
  const made = await alerts.create(id, body(8_000));
  expect(made).toMatchObject({
    object: "project.spend_alert",
    threshold_amount: 8_000,
    notification_channel: { type: "email", recipients: ["ops@example.com"], subject_prefix: null },
  });
  const second = await alerts.create(id, body(9_000));
  expect(await alerts.retrieve(made.id, { project_id: id })).toEqual(made);
  const changed = await alerts.update(made.id, { project_id: id, ...body(7_550) });
  expect(changed).toEqual({ ...made, threshold_amount: 7_550 });
  const ids = async (query: object) => {
    const all: string[] = [];
    for await (const alert of alerts.list(id, { limit: 1, ...query })) all.push(alert.id);
    return all;
  };
  expect(await ids({})).toEqual([made.id, second.id]);
  expect(await ids({ order: "desc" })).toEqual([second.id, made.id]);
  expect((await alerts.list(id, { before: second.id })).data.map((it) => it.id)).toEqual([made.id]);
  const { body: project } = await registry.call(registry.adminKey, "GET", `/api/projects/${id}`);
  expect(project.spendAlerts[0]).toEqual({
    id: made.id,
    thresholdUsd: "75.5",
    recipients: ["ops@example.com"],
  });
  await expect(alerts.create(id, { ...body(1), threshold_amount: 0 })).rejects.toMatchObject({
    status: 400,
  });

  const whole = await organization.spendAlerts.create(body(100));
  expect(whole.object).toBe("organization.spend_alert");
  // What is declared of the organisation, and its spend limit, leave them alone.
  await organization.spendLimit.update({ currency: "USD", interval: "month", threshold_amount: 5 });
  await organization.spendLimit.delete();
  await registry.call(registry.adminKey, "PUT", "/api/organization", { budgets: [] });
  expect((await organization.spendAlerts.list()).data).toEqual([whole]);
  expect((await organization.spendAlerts.update(whole.id, body(200))).threshold_amount).toBe(200);
  expect((await organization.spendAlerts.retrieve(whole.id)).threshold_amount).toBe(200);
  expect(await organization.spendAlerts.delete(whole.id)).toEqual({
    id: whole.id,
    object: "organization.spend_alert.deleted",
    deleted: true,
  });
  expect((await alerts.delete(second.id, { project_id: id })).deleted).toBe(true);
  await expect(alerts.delete(second.id, { project_id: id })).rejects.toMatchObject({ status: 404 });
  await expect(organization.spendAlerts.retrieve(made.id)).rejects.toMatchObject({ status: 404 });
});

test("the audit log tells who did what, the newest first, by every filter", async () => {
  const me = (await whoami(registry.adminKey)).body.keyId as string;
  const made = await organization.projects.create({ name: "audited" });
  const account = await organization.projects.serviceAccounts.create(made.id, { name: "a" });
  await organization.projects.apiKeys.delete(account.api_key?.id ?? "", { project_id: made.id });
  const read = async (query: object) => {
    const found: OpenAI.Admin.Organization.AuditLogListResponse[] = [];
    for await (const log of organization.auditLogs.list({ limit: 2, ...query })) found.push(log);
    return found;
  };
  const of = async (query: object) => (await read(query)).map(({ type }) => type);
  expect(await of({ project_ids: [made.id] })).toEqual([
    "api_key.deleted",
    "api_key.created",
    "service_account.created",
    "project.created",
  ]);
  expect(
    await of({ project_ids: [made.id], event_types: ["api_key.created", "project.created"] }),
  ).toEqual(["api_key.created", "project.created"]);
  expect(await of({ resource_ids: [account.id] })).toEqual(["service_account.created"]);
  expect(await of({ actor_ids: ["key_nobody"] })).toEqual([]);
  expect(await of({ actor_emails: ["nobody@example.com"] })).toEqual([]);
  const second = registry.clock.nowMs / 1000;
  expect(await of({ project_ids: [made.id], effective_at: { gt: second } })).toEqual([]);
  expect(
    await of({ project_ids: [made.id], effective_at: { gte: second, lte: second } }),
  ).toHaveLength(4);
  const [newest, next] = await read({ project_ids: [made.id] });
  expect(newest).toMatchObject({
    effective_at: second,
    project: { id: made.id, name: "audited" },
    actor: { type: "api_key", api_key: { id: me } },
    "api_key.deleted": { id: account.api_key?.id },
  });
  const before = await organization.auditLogs.list({
    project_ids: [made.id],
    before: next?.id ?? "",
  });
  expect(before.data.map(({ id }) => id)).toEqual([newest?.id]);
  await expect(organization.auditLogs.list({ after: "7" })).rejects.toMatchObject({ status: 400 });
});

test("where a request came from is believed of a gateway alone", async () => {
  const create = (name: string, operator?: string) =>
    registry.app.fetch(
      new Request("http://registry/v1/organization/projects", {
        method: "POST",
        body: JSON.stringify({ name }),
        headers: {
          authorization: `Bearer ${registry.adminKey}`,
          "x-switchyard-client-address": "192.0.2.7",
          ...(operator && { "x-switchyard-operator": operator }),
        },
      }),
    );
  await create("vouched", registry.operatorKey);
  await create("claimed", "not the operator's key");
  await create("unvouched");
  const { body } = await registry.call(registry.adminKey, "GET", "/api/events?limit=100");
  const addresses = Object.fromEntries(
    body.data.map((event: { detail: { name?: string }; address?: string }) => [
      event.detail.name,
      event.address,
    ]),
  );
  expect(addresses).toMatchObject({ vouched: "192.0.2.7" });
  expect([addresses.claimed, addresses.unvouched]).toEqual([undefined, undefined]);
  const [log] = (
    await organization.auditLogs.list({ event_types: ["project.created"], limit: 3 })
  ).data.slice(2);
  expect(log?.actor?.api_key).toMatchObject({ ip_address: "192.0.2.7" });
});
