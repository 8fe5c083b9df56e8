/** People and what is theirs: invitations, memberships, keys of their own, and the command line that they log in to. */

import { hash, randomBytes } from "node:crypto";
import { mkdtemp, rm, stat } from "node:fs/promises";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import OpenAI from "openai";
import pc from "picocolors";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createGateway, type Gateway } from "../../gateway/gateway.ts";
import { createHttpServer } from "../../gateway/http/server.ts";
import { signInSettings } from "../../gateway/people/settings.ts";
import { main } from "../../sdk/cli/main.ts";
import { testAccounts } from "../support/gateway.ts";
import { Browser, listen, providerSecret, startProvider } from "../support/open-id.ts";
import { openTestRegistry, type TestRegistry } from "../support/registry.ts";

const groups: Record<string, string[]> = {
  ada: ["developers"],
  bert: ["developers"],
  cleo: ["developers"],
  olga: ["owners"],
  anna: ["admins"],
  dora: ["admins"],
  fina: ["controllers"],
  "unverified-eve": ["developers"],
};
let registry: TestRegistry;
let gateway: Gateway;
let organization: OpenAI["admin"]["organization"];
let idp: { server: Server; url: string };
let door: { server: Server; url: string };
let folder: string;

beforeAll(async () => {
  registry = await openTestRegistry();
  registry.clock.nowMs = Date.now();
  folder = await mkdtemp(join(tmpdir(), "switchyard-config-"));
  let serve: (request: Request) => Response | Promise<Response>;
  const server = createHttpServer((request) => serve(request));
  door = { server, url: await listen(server) };
  idp = await startProvider(`${door.url}/auth/callback`, groups);
  gateway = await createGateway({
    upstreams: [],
    registry: registry.app,
    operatorKey: registry.operatorKey,
    accounts: testAccounts().create,
    logger: pino({ level: "silent" }),
    now: () => registry.clock.nowMs,
    limits: { keyUseFlushMs: 10 },
    env: { CLIENT_SECRET: providerSecret },
    signIn: signInSettings.parse({
      issuer: idp.url,
      clientId: "switchyard",
      clientSecretEnv: "CLIENT_SECRET",
      publicUrl: door.url,
      roles: {
        developer: ["developers"],
        finance: ["controllers"],
        owner: ["owners"],
        admin: ["admins"],
      },
    }),
  });
  await gateway.start();
  serve = gateway.app.fetch;
  organization = clientOf(registry.adminKey);
});
afterAll(async () => {
  await gateway?.stop();
  for (const { server } of [door, idp]) {
    server.closeAllConnections();
    server.close();
  }
  await registry?.close();
  await rm(folder, { recursive: true, force: true });
});

const clientOf = (adminAPIKey: string) =>
  new OpenAI({ adminAPIKey, apiKey: "unused", baseURL: `${door.url}/v1`, maxRetries: 0 }).admin
    .organization;
const modelsOf = async (key: string) =>
  (await fetch(`${door.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;

async function loggedIn(as: string): Promise<Browser> {
  const browser = new Browser(door.url);
  expect((await browser.logIn(as)).status).toBe(302);
  return browser;
}
async function whois(browser: Browser) {
  const answer = await browser.call("GET", "/api/whoami");
  // biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects
  return (await answer.json()) as any;
}
async function post(browser: Browser, path: string, body: object) {
  const response = await browser.call("POST", path, body);
  // biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects
  return { status: response.status, body: (await response.json()) as any };
}

describe("keys of one's own", () => {
  test("are made, listed, rotated and revoked by a member, and belong to the person", async () => {
    const project = await organization.projects.create({ name: "search" });
    const ada = await loggedIn("ada");
    const wanted = { name: "notebook", projectId: project.id };
    const outside = await post(ada, "/api/me/keys", wanted);
    expect(outside.status).toBe(403);
    expect(outside.body.error.message).toContain("You are no member of the project 'search'");

    const { keyId: id } = await whois(ada);
    const added = await organization.projects.users.create(project.id, {
      role: "member",
      user_id: id,
    });
    expect(added).toMatchObject({
      id,
      object: "organization.project.user",
      email: "ada@example.com",
      role: "member",
    });
    const made = await post(ada, "/api/me/keys", wanted);
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ name: "notebook", ownerId: id, projectId: project.id });
    const days = (Date.parse(made.body.expiresAt) - Date.parse(made.body.createdAt)) / 86_400_000;
    expect(days).toBe(90);
    expect(await modelsOf(made.body.key)).toBe(200);
    const listed = await organization.projects.apiKeys.list(project.id);
    expect(listed.data[0]?.owner).toMatchObject({
      type: "user",
      user: { id, email: "ada@example.com" },
    });

    const own = (await (await ada.call("GET", "/api/me/keys")).json()) as { data: object[] };
    expect(own.data).toHaveLength(1);
    expect(JSON.stringify(own)).not.toContain(made.body.key);
    const path = `/api/me/keys/${made.body.id}`;
    const rotated = await post(ada, `${path}/rotate`, { overlapSeconds: 0 });
    expect(rotated.body.expiresAt).toBe(made.body.expiresAt);
    expect([await modelsOf(made.body.key), await modelsOf(rotated.body.key)]).toEqual([401, 200]);

    const bert = await loggedIn("bert");
    expect((await post(bert, `${path}/rotate`, {})).status).toBe(404);
    expect((await bert.call("DELETE", path)).status).toBe(404);
    expect((await (await bert.call("GET", "/api/me/keys")).json()) as object).toMatchObject({
      data: [],
    });
    expect((await ada.call("DELETE", path)).status).toBe(200);
    expect(await modelsOf(rotated.body.key)).toBe(401);
    const withKey = await registry.call(registry.adminKey, "GET", "/api/me/keys");
    expect(withKey.status).toBe(403);
  });

  test("stay below the project's ceiling", async () => {
    const made = await registry.call(registry.adminKey, "POST", "/api/projects", {
      name: "bounded",
      ownKeys: {
        keysMax: 2,
        daysMax: 7,
        limits: {
          requestsPerMinute: 60,
          rules: [{ kind: "requests", limit: 500, windowSeconds: 86_400 }],
        },
        budgets: [{ limitUsd: "5", period: "day" }],
        scopes: { models: ["tiny"], endpoints: ["/v1/chat/completions", "/v1/models"] },
      },
    });
    const projectId = made.body.id as string;
    const ada = await loggedIn("ada");
    const { keyId: user_id } = await whois(ada);
    await organization.projects.users.create(projectId, { role: "member", user_id });
    const ask = (more: object) => post(ada, "/api/me/keys", { name: "k", projectId, ...more });
    const beyond: [object, string][] = [
      [{ expiresInSeconds: 8 * 86_400 }, "expiresInSeconds"],
      [{ limits: { requestsPerMinute: 61 } }, "limits"],
      [{ budgets: [{ limitUsd: "6", period: "day" }] }, "budgets"],
      [{ scopes: { models: ["big"] } }, "scopes.models"],
      [{ scopes: { endpoints: ["/v1"] } }, "scopes.endpoints"],
    ];
    for (const [more, param] of beyond) {
      const refused = await ask(more);
      expect([refused.status, refused.body.error.param]).toEqual([403, param]);
    }
    const plain = await ask({});
    expect(plain.body).toMatchObject({
      limits: { requestsPerMinute: 60, rules: [{ kind: "requests", limit: 500 }] },
      budgets: [{ limitUsd: "5", period: "day" }],
      scopes: { models: ["tiny"], endpoints: ["/v1/chat/completions", "/v1/models"] },
    });
    const less = await ask({
      expiresInSeconds: 3600,
      limits: { requestsPerMinute: 6, tokensPerMinute: 1000 },
      budgets: [{ limitUsd: "1", period: "day" }],
      scopes: { models: ["tiny:tone"] },
    });
    expect(less.body).toMatchObject({
      limits: { requestsPerMinute: 6, tokensPerMinute: 1000, rules: [{ limit: 500 }] },
      budgets: [{ limitUsd: "1", period: "day" }],
      scopes: { models: ["tiny:tone"], endpoints: ["/v1/chat/completions", "/v1/models"] },
    });
    const third = await ask({});
    expect(third.status).toBe(403);
    expect(third.body.error.message).toContain("may have 2");
    expect((await post(ada, "/api/me/keys", { name: "k", projectId, tags: {} })).status).toBe(400);
  });

  test("have a ceiling of the organisation that finance sees and does not change", async () => {
    const fina = await loggedIn("fina");
    const anna = await loggedIn("anna");
    const put = async (browser: Browser, body: object) => {
      const response = await browser.call("PUT", "/api/organization", body);
      // biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects
      return { status: response.status, body: (await response.json()) as any };
    };
    const ownKeys = { keysMax: 50, daysMax: 30 };
    const set = await put(anna, { budgets: [], ownKeys });
    expect(set.body).toEqual({ budgets: [], ownKeys });
    for (const other of [{ keysMax: 1000 }, null]) {
      const refused = await put(fina, { budgets: [], ownKeys: other });
      expect([refused.status, refused.body.error.param]).toEqual([403, "ownKeys"]);
    }
    const budgets = [{ limitUsd: "5000", period: "month" }];
    expect((await put(fina, { budgets })).body).toEqual({ budgets, ownKeys });
    expect((await put(fina, { budgets: [], ownKeys })).body).toEqual({ budgets: [], ownKeys });
    expect((await put(anna, { budgets: [], ownKeys: null })).body).toEqual({ budgets: [] });
  });

  test("end with the membership, and rest while the person is disabled", async () => {
    const project = await organization.projects.create({ name: "leaving" });
    const other = await organization.projects.create({ name: "staying" });
    const bert = await loggedIn("bert");
    const { keyId: user_id } = await whois(bert);
    const keys: string[] = [];
    for (const { id } of [project, other]) {
      await organization.projects.users.create(id, { role: "member", user_id });
      const made = await post(bert, "/api/me/keys", { name: "k", projectId: id });
      keys.push(made.body.key);
    }
    const works = () => Promise.all(keys.map(modelsOf));
    expect(await works()).toEqual([200, 200]);
    await organization.projects.users.delete(user_id, { project_id: project.id });
    expect(await works()).toEqual([401, 200]);
    await expect(
      organization.projects.users.retrieve(user_id, { project_id: project.id }),
    ).rejects.toMatchObject({ status: 404 });

    const setEnabled = (enabled: boolean) =>
      registry.call(registry.adminKey, "POST", `/v1/organization/users/${user_id}`, { enabled });
    const shown = (await setEnabled(false)).body;
    expect(shown.user).toMatchObject({ enabled: false });
    // Said to the registry itself: the gateway hears of it by its long poll.
    await vi.waitFor(async () => expect(await works()).toEqual([401, 401]));
    await vi.waitFor(async () => {
      registry.clock.nowMs += 1001;
      expect((await bert.call("GET", "/api/whoami")).status).toBe(401);
    });
    expect((await new Browser(door.url).logIn("bert")).status).toBe(403);
    expect((await organization.projects.apiKeys.list(other.id)).data[0]?.owner_project_access).toBe(
      "inactive",
    );
    await setEnabled(true);
    await vi.waitFor(async () => expect(await works()).toEqual([401, 200]));
    await organization.users.delete(user_id);
    expect(await works()).toEqual([401, 401]);
  });
});

describe("members", () => {
  test("who own a project see to its members and their keys, in no other project", async () => {
    const mine = await organization.projects.create({ name: "mine" });
    const theirs = await organization.projects.create({ name: "theirs" });
    const ada = await loggedIn("ada");
    const cleo = await loggedIn("cleo");
    const [adaId, cleoId] = [(await whois(ada)).keyId, (await whois(cleo)).keyId];
    await organization.projects.users.create(mine.id, { role: "member", email: "ada@example.com" });
    const users = `/v1/organization/projects/${mine.id}/users`;
    const member = { role: "member", user_id: cleoId };
    expect((await post(ada, users, member)).status).toBe(403);
    expect(
      await organization.projects.users.update(adaId, { project_id: mine.id, role: "owner" }),
    ).toMatchObject({ role: "owner" });
    registry.clock.nowMs += 1001;
    expect((await post(ada, users, member)).status).toBe(200);
    expect((await post(ada, `/v1/organization/projects/${theirs.id}/users`, member)).status).toBe(
      403,
    );
    const made = await post(cleo, "/api/me/keys", { name: "k", projectId: mine.id });
    const path = `/v1/organization/projects/${mine.id}/api_keys/${made.body.id}`;
    expect((await ada.call("DELETE", path)).status).toBe(200);
    expect(await modelsOf(made.body.key)).toBe(401);
    const listed: string[] = [];
    for await (const it of organization.projects.users.list(mine.id, { limit: 1 })) {
      listed.push(`${it.email} ${it.role}`);
    }
    expect(listed.sort()).toEqual(["ada@example.com owner", "cleo@example.com member"]);
    const person = await organization.users.retrieve(cleoId);
    expect(person.projects?.data).toContainEqual({ id: mine.id, name: "mine", role: "member" });
    expect((await whois(cleo)).user.projects).toContainEqual({
      id: mine.id,
      name: "mine",
      role: "member",
    });
    await expect(
      organization.projects.users.create(mine.id, { role: "member", email: "no@example.com" }),
    ).rejects.toMatchObject({ status: 404 });
    const eve = await loggedIn("unverified-eve");
    const { keyId: user_id } = await whois(eve);
    const email = "unverified-eve@example.com";
    await expect(
      organization.projects.users.create(mine.id, { role: "member", email }),
    ).rejects.toMatchObject({ status: 404, param: "email" });
    expect(
      await organization.projects.users.create(mine.id, { role: "member", user_id }),
    ).toMatchObject({ email });
  });
});

describe("an invitation", () => {
  test("is taken by the first login with that address, and gives role and projects", async () => {
    const project = await organization.projects.create({ name: "welcome" });
    expect((await new Browser(door.url).logIn("newcomer")).status).toBe(403);
    const sent = await organization.invites.create({
      email: "Newcomer@Example.com",
      role: "reader",
      projects: [{ id: project.id, role: "owner" }],
    });
    expect(sent).toMatchObject({
      object: "organization.invite",
      email: "newcomer@example.com",
      role: "reader",
      status: "pending",
      accepted_at: null,
    });
    expect((sent.expires_at ?? 0) - sent.created_at).toBe(7 * 86_400);
    await expect(
      organization.invites.create({ email: "newcomer@example.com", role: "reader" }),
    ).rejects.toMatchObject({ status: 409 });

    const newcomer = await loggedIn("newcomer");
    expect((await whois(newcomer)).user).toEqual({
      role: "viewer",
      email: "newcomer@example.com",
      name: "Newcomer",
      projects: [{ id: project.id, name: "welcome", role: "owner" }],
    });
    expect(await organization.invites.retrieve(sent.id)).toMatchObject({
      status: "accepted",
      accepted_at: expect.any(Number),
    });
    await expect(organization.invites.delete(sent.id)).rejects.toMatchObject({ status: 400 });
    // In no group and invited once: comes in again.
    await loggedIn("newcomer");
    const made = await post(newcomer, "/api/me/keys", { name: "k", projectId: project.id });
    expect(made.status).toBe(201);
  });

  test("of an address that the provider does not vouch for, one that ended and one taken back let nobody in", async () => {
    const refused = async (as: string) => {
      expect((await new Browser(door.url).logIn(as)).status).toBe(403);
    };
    await organization.invites.create({ email: "unverified-x@example.com", role: "reader" });
    await refused("unverified-x");
    const late = await organization.invites.create({ email: "late@example.com", role: "reader" });
    registry.clock.nowMs += 7 * 86_400_000;
    expect((await organization.invites.retrieve(late.id)).status).toBe("expired");
    await refused("late");
    registry.clock.nowMs = Date.now();
    const back = await organization.invites.create({ email: "back@example.com", role: "reader" });
    expect((await organization.invites.delete(back.id)).deleted).toBe(true);
    await refused("back");
    const left: string[] = [];
    for await (const it of organization.invites.list({ limit: 1 })) left.push(it.email);
    expect(left).toContain("late@example.com");
    expect(left).not.toContain("back@example.com");
  });

  test("is all that is left to who left their groups", async () => {
    const roleOf = async () => (await whois(await loggedIn("dora"))).user.role;
    expect(await roleOf()).toBe("admin");
    await organization.invites.create({ email: "dora@example.com", role: "reader" });
    expect(await roleOf()).toBe("admin");
    groups.dora = [];
    expect(await roleOf()).toBe("viewer");
    groups.dora = ["developers"];
    expect(await roleOf()).toBe("developer");
  });

  test("makes nobody more than who invites", async () => {
    const anna = await loggedIn("anna");
    const invite = (email: string, role: string) =>
      post(anna, "/v1/organization/invites", { email, role });
    expect((await invite("x@example.com", "owner")).status).toBe(403);
    expect((await invite("x@example.com", "admin")).status).toBe(403);
    expect((await invite("x@example.com", "developer")).status).toBe(200);
    const olga = await loggedIn("olga");
    const body = { email: "y@example.com", role: "owner" };
    expect((await post(olga, "/v1/organization/invites", body)).status).toBe(200);
  });
});

test("when a key was used is known to the minute, and written once in it", async () => {
  const project = await organization.projects.create({ name: "used" });
  const account = await organization.projects.serviceAccounts.create(project.id, { name: "a" });
  const { id = "", value = "" } = account.api_key ?? {};
  const lastUsed = async () =>
    (await organization.projects.apiKeys.retrieve(id, { project_id: project.id })).last_used_at;
  expect(await lastUsed()).toBeNull();
  const first = Math.floor(registry.clock.nowMs / 1000);
  await modelsOf(value);
  await vi.waitFor(async () => expect(await lastUsed()).toBe(first));
  const { snapshotVersion: version } = (await (await fetch(`${door.url}/readyz`)).json()) as {
    snapshotVersion: number;
  };
  registry.clock.nowMs += 59_000;
  await modelsOf(value);
  registry.clock.nowMs += 2_000;
  const second = Math.floor(registry.clock.nowMs / 1000);
  await modelsOf(value);
  await vi.waitFor(async () => expect(await lastUsed()).toBe(second));
  // Another gateway that tells of a use within the minute changes nothing.
  const at = new Date(registry.clock.nowMs + 30_000).toISOString();
  const told = { keys: [{ id, at }] };
  expect((await registry.call(registry.operatorKey, "POST", "/api/keys/used", told)).status).toBe(
    200,
  );
  expect(await lastUsed()).toBe(second);
  expect((await registry.call(registry.adminKey, "POST", "/api/keys/used", told)).status).toBe(403);
  // No change of policy: gateways are not woken by it.
  const after = (await (await fetch(`${door.url}/readyz`)).json()) as { snapshotVersion: number };
  expect(after.snapshotVersion).toBe(version);
  const admin = (await organization.adminAPIKeys.list()).data.find(
    (it) => it.name === "first admin",
  );
  expect(admin?.last_used_at).toBeGreaterThan(0);
  registry.clock.nowMs = Date.now();
});

describe("the command line", () => {
  test("logs in by the browser, works as the person, and logs out", async () => {
    const project = await organization.projects.create({ name: "terminal" });
    const cleo = await loggedIn("cleo");
    const { keyId: user_id } = await whois(cleo);
    await organization.projects.users.create(project.id, { role: "member", user_id });

    const sessions = async () =>
      (await registry.database.sql`select 1 from registry.sessions`).length;
    const login = start("login", "--no-browser");
    const url = await login.said(/(http\S+\/auth\/login\S+)/);
    const browser = new Browser(door.url);
    const openBefore = await sessions();
    const back = await browser.ask(await browser.leave("cleo", url));
    // Who only followed a link, and said nothing yet, has opened nothing.
    expect(await sessions()).toBe(openBefore);
    expect([back.status, back.headers.get("x-frame-options") ?? "none"]).toEqual([200, "none"]);
    expect(back.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(browser.token).toBeUndefined();
    const page = await back.text();
    const shown = await login.said(/shows (\w{4}-\w{4})/);
    expect(page).toContain(shown);
    expect(page).toContain("cleo@example.com");
    const link = (/href="(http:\/\/127[^"]+)"/.exec(page)?.[1] ?? "").replaceAll("&amp;", "&");
    expect((await fetch(link.replace(/state=[^&]+/, "state=another"))).status).toBe(404);
    expect((await fetch(link)).status).toBe(200);
    expect(await login.ended).toBe(0);
    expect(await sessions()).toBe(openBefore + 1);
    expect(login.stdout()).toContain("You are cleo@example.com, developer.");
    expect((await stat(join(folder, "sessions.json"))).mode & 0o777).toBe(0o600);

    const run = async (...args: string[]) => {
      const command = start(...args);
      const code = await command.ended;
      return { code, stdout: command.stdout(), stderr: command.stderr() };
    };
    expect((await run("whoami")).stdout).toContain("You are a member of");
    const made = JSON.parse(
      (await run("keys", "create", "cli", "--mine", "--project", "terminal", "--json")).stdout,
    );
    expect(made.ownerId).toBe(user_id);
    expect(await modelsOf(made.key)).toBe(200);
    expect((await run("keys", "list", "--mine")).stdout).toContain("cli");
    const denied = await run("keys", "create", "boss", "--admin");
    expect([denied.code, denied.stderr]).toEqual([1, expect.stringContaining("does not allow")]);
    await run("keys", "revoke", made.id, "--mine");
    expect(await modelsOf(made.key)).toBe(401);

    // The code without the secret is of no use.
    const code = new URL(link).searchParams.get("code");
    const forged = await fetch(`${door.url}/auth/token`, {
      method: "POST",
      body: JSON.stringify({ code, verifier: "A".repeat(43) }),
    });
    expect(forged.status).toBe(403);
    expect((await run("logout")).stdout).toContain("You are logged out.");
    await expect(stat(join(folder, "sessions.json"))).rejects.toMatchObject({ code: "ENOENT" });
    expect((await run("whoami")).code).toBe(2);
  });

  test("takes a code once, whoever asks how often at a time", async () => {
    const verifier = randomBytes(32).toString("base64url");
    const challenge = hash("sha256", verifier, "base64url");
    const from = `${door.url}/auth/login?challenge=${challenge}&state=${"s".repeat(22)}`;
    const browser = new Browser(door.url);
    const page = await (await browser.ask(await browser.leave("cleo", from))).text();
    const code = /<pre>([^<]+)<\/pre>/.exec(page)?.[1];
    const sessions = async () =>
      (await registry.database.sql`select 1 from registry.sessions`).length;
    const before = await sessions();
    const redeem = async () => {
      const body = JSON.stringify({ code, verifier });
      const answer = await fetch(`${door.url}/auth/token`, { method: "POST", body });
      return { status: answer.status, text: await answer.text() };
    };
    const together = await Promise.all(Array.from({ length: 5 }, redeem));
    expect(together.map(({ status }) => status).sort()).toEqual([200, 403, 403, 403, 403]);
    expect(await sessions()).toBe(before + 1);

    // Nor is it good again when its session has ended.
    const opened = together.find(({ status }) => status === 200)?.text ?? "{}";
    const headers = { authorization: `Bearer ${JSON.parse(opened).token}` };
    await fetch(`${door.url}/auth/logout`, { method: "POST", headers });
    const again = await redeem();
    expect([again.status, again.text]).toEqual([403, expect.stringContaining("used already")]);
    expect(await sessions()).toBe(before);
  });

  test("takes a code that was copied, where no browser can come back", async () => {
    const login = start("login", "--paste");
    const url = await login.said(/(http\S+\/auth\/login\S+)/);
    const browser = new Browser(door.url);
    const page = await (await browser.ask(await browser.leave("cleo", url))).text();
    login.stdin.write(`${/<pre>([^<]+)<\/pre>/.exec(page)?.[1]}\n`);
    expect(await login.ended).toBe(0);
    expect(login.stdout()).toContain("cleo@example.com");
  });

  test("refuses to send anybody to another machine", async () => {
    const ask = (query: string) =>
      fetch(`${door.url}/auth/login?${query}`, { redirect: "manual" }).then((it) => it.status);
    const right = `challenge=${"c".repeat(43)}&state=${"s".repeat(22)}`;
    expect(await ask(`${right}&port=4000`)).toBe(302);
    for (const wrong of ["&port=80", "&port=70000", "&port=evil.example"]) {
      expect(await ask(right + wrong)).toBe(400);
    }
    expect(await ask("challenge=short&state=x")).toBe(400);
  });
});

/** The command in this process, with a terminal of its own. */
function start(...args: string[]) {
  const stdin = new PassThrough();
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  let [out, err] = ["", ""];
  stdout.on("data", (chunk) => {
    out += chunk;
  });
  stderr.on("data", (chunk) => {
    err += chunk;
  });
  const colours = pc.createColors(false);
  const ended = main(
    ["--url", door.url, ...args],
    {},
    {
      env: { SWITCHYARD_CONFIG_DIR: folder, SWITCHYARD_DATA_DIR: folder },
      stdin,
      stdout,
      stderr,
      colours,
      errorColours: colours,
    },
  );
  return {
    stdin,
    ended,
    stdout: () => out,
    stderr: () => err,
    said: (pattern: RegExp) =>
      vi.waitFor(() => {
        const found = pattern.exec(err)?.[1];
        if (!found) throw new Error(`not said: ${err}`);
        return found;
      }, 30_000),
  };
}
