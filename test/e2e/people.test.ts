/** People log in at a real OpenID provider, and do what their role allows and nothing else. */
import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import pino from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { MasterKeys } from "../../gateway/content-log/master-keys.ts";
import { createGateway, type Gateway } from "../../gateway/gateway.ts";
import { createHttpServer } from "../../gateway/http/server.ts";
import { migrateLedger } from "../../gateway/ledger/database.ts";
import { operations } from "../../gateway/openapi/operations.ts";
import { signInSettings } from "../../gateway/people/settings.ts";
import { permissions, type Role, role as roles } from "../../sdk/protocol/roles.ts";
import { testAccounts } from "../support/gateway.ts";
import { Browser, listen, providerSecret, startProvider } from "../support/open-id.ts";
import { openTestRegistry, type TestRegistry } from "../support/registry.ts";

const groupsOf: Record<string, string[]> = {
  ...Object.fromEntries(roles.options.map((role) => [role, ["all", `sy-${role}`]])),
  both: ["sy-viewer", "sy-admin"],
  stranger: ["all"],
};
const quiet = pino({ level: "silent" });
let registry: TestRegistry;
let gateway: Gateway;
let idp: { server: Server; url: string };
let door: { server: Server; url: string };

beforeAll(async () => {
  registry = await openTestRegistry();
  registry.clock.nowMs = Date.now();
  await migrateLedger(registry.database.sql);
  let serve: (request: Request) => Response | Promise<Response>;
  const server = createHttpServer((request) => serve(request));
  door = { server, url: await listen(server) };
  idp = await startProvider(`${door.url}/auth/callback`, groupsOf);
  gateway = await createGateway({
    upstreams: [],
    registry: registry.app,
    operatorKey: registry.operatorKey,
    accounts: testAccounts().create,
    logger: quiet,
    contents: {
      sql: registry.database.sql,
      masterKeys: new MasterKeys(randomBytes(32).toString("base64")),
    },
    now: () => registry.clock.nowMs,
    env: { CLIENT_SECRET: providerSecret },
    signIn: signInSettings.parse({
      issuer: idp.url,
      clientId: "switchyard",
      clientSecretEnv: "CLIENT_SECRET",
      publicUrl: door.url,
      roles: Object.fromEntries(roles.options.map((role) => [role, [`sy-${role}`]])),
    }),
  });
  await gateway.start();
  serve = gateway.app.fetch;
});
afterAll(async () => {
  await gateway?.stop();
  for (const { server } of [door, idp]) {
    server.closeAllConnections();
    server.close();
  }
  await registry?.close();
});
beforeEach(() => {
  registry.clock.nowMs = Date.now();
});

describe("logging in", () => {
  test("opens a session in a cookie that no script reads, and tells who it is", async () => {
    const browser = new Browser(door.url);
    expect(await (await browser.call("GET", "/auth/session")).json()).toEqual({
      enabled: true,
      user: null,
    });
    const back = await browser.logIn("finance");
    expect([back.status, back.headers.get("location")]).toEqual([302, "/"]);
    const line = browser.setCookies.find((it) => it.startsWith("switchyard_session="));
    expect(line).toMatch(/; Path=\/; HttpOnly; SameSite=Lax; Max-Age=43200$/);
    const { user } = (await (await browser.call("GET", "/auth/session")).json()) as {
      user: object;
    };
    expect(user).toEqual({
      role: "finance",
      email: "finance@example.com",
      name: "Finance",
      projects: [],
    });
    expect((await browser.call("GET", "/api/projects")).status).toBe(200);
  });

  test("takes the greatest role of several groups, and refuses who is in none", async () => {
    const both = new Browser(door.url);
    await both.logIn("both");
    const { user } = (await (await both.call("GET", "/api/whoami")).json()) as {
      user: { role: Role };
    };
    expect(user.role).toBe("admin");
    const stranger = new Browser(door.url);
    expect((await stranger.logIn("stranger")).status).toBe(403);
    expect(stranger.token).toBeUndefined();
  });

  test("fails with another state, another browser, a code that was used, and after too long", async () => {
    const browser = new Browser(door.url);
    const url = new URL(await browser.leave("viewer"));
    expect((await new Browser(door.url).ask(url.href)).status).toBe(403);
    const forged = new URL(url);
    forged.searchParams.set("state", "another");
    expect((await browser.ask(forged.href)).status).toBe(403);
    const jar = new Map(browser.jars.get(door.url));
    expect((await browser.ask(url.href)).status).toBe(302);
    const again = new Browser(door.url);
    again.jars.set(door.url, jar);
    expect((await again.ask(url.href)).status).toBe(403);
    expect(again.token).toBeUndefined();
    const slow = await again.leave("viewer");
    registry.clock.nowMs += 601_000;
    expect((await again.ask(slow)).status).toBe(403);
  });

  test("is in the audit log with the client's address, as is the end", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("owner");
    expect((await browser.call("POST", "/auth/logout")).status).toBe(204);
    const { data } = await audit(
      "event_types[]=login.succeeded&event_types[]=logout.succeeded&limit=2",
    );
    expect(data.map(({ type }) => type)).toEqual(["logout.succeeded", "login.succeeded"]);
    for (const { actor } of data) {
      expect(actor).toMatchObject({
        type: "session",
        session: { ip_address: "127.0.0.1", user: { email: "owner@example.com" } },
      });
    }
  });
});

describe("a session", () => {
  test("ends with logout, also for whoever copied its token", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("viewer");
    const headers = { authorization: `Bearer ${browser.token}` };
    expect((await fetch(`${door.url}/api/whoami`, { headers })).status).toBe(200);
    await browser.call("POST", "/auth/logout");
    expect(browser.token).toBeUndefined();
    expect((await fetch(`${door.url}/api/whoami`, { headers })).status).toBe(401);
  });

  test("gets another token with the page, and ends after its hours", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("viewer");
    const first = browser.token;
    await browser.call("GET", "/auth/session");
    expect(browser.token).not.toBe(first);
    const old = await registry.call(first ?? "", "GET", "/api/whoami");
    expect(old.status).toBe(200);
    registry.clock.nowMs += 31_000;
    expect((await registry.call(first ?? "", "GET", "/api/whoami")).status).toBe(401);
    expect((await registry.call(browser.token ?? "", "GET", "/api/whoami")).status).toBe(200);
    registry.clock.nowMs += 12 * 3_600_000;
    expect((await registry.call(browser.token ?? "", "GET", "/api/whoami")).status).toBe(401);
  });

  test("changes nothing for pages of other sites, and runs no model", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("owner");
    const create = (headers: Record<string, string>) =>
      browser.ask(`${door.url}/v1/organization/projects`, {
        method: "POST",
        headers,
        body: JSON.stringify({ name: "forged" }),
      });
    expect((await create({ origin: "http://evil.example" })).status).toBe(403);
    expect((await create({})).status).toBe(403);
    expect((await browser.ask(`${door.url}/auth/logout`, { method: "POST" })).status).toBe(403);
    expect((await create({ origin: door.url })).status).toBe(200);
    const chat = await browser.call("POST", "/v1/chat/completions", { model: "m", messages: [] });
    expect(chat.status).toBe(401);
  });

  test("of a person who is deleted ends, and so do their keys; a role that is given holds at once", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("developer");
    const { keyId } = (await (await browser.call("GET", "/api/whoami")).json()) as {
      keyId: string;
    };
    const address = `/v1/organization/users/${keyId}`;
    await registry.call(registry.adminKey, "POST", address, { role: "viewer" });
    expect((await registry.call(browser.token ?? "", "GET", "/api/keys")).status).toBe(403);
    await browser.logIn("developer");
    const again = (await registry.call(browser.token ?? "", "GET", "/api/whoami")).body;
    expect(again.user.role).toBe("viewer");
    await registry.call(registry.adminKey, "DELETE", address);
    expect((await registry.call(browser.token ?? "", "GET", "/api/whoami")).status).toBe(401);
  });

  test("is of no use where it was made up", async () => {
    const headers = { authorization: `Bearer sys_${"A".repeat(43)}` };
    expect((await fetch(`${door.url}/api/projects`, { headers })).status).toBe(401);
  });
});

describe("roles", () => {
  const managed = operations
    .filter(({ path }) => /^\/(api|v1\/organization)\//.test(path))
    .map(
      ({ method, path, served }) =>
        `${method.toUpperCase()} ${served ?? path.replace(/\{(\w+)\}/g, ":$1")}`,
    );

  test("are told of no address that there is not", () => {
    expect(Object.keys(permissions).filter((route) => !managed.includes(route))).toEqual([]);
  });

  test.each(roles.options)(
    "%s may call what the table lists and is refused all else",
    async (role) => {
      const browser = new Browser(door.url);
      await browser.logIn(role);
      const wrong: string[] = [];
      for (const route of [
        ...managed,
        "GET /api/snapshot",
        "POST /api/sessions",
        "GET /api/unheard-of",
      ]) {
        const [method = "", pattern = ""] = route.split(" ");
        const path = pattern.replace(/:\w+/g, "unknown");
        const listed = permissions[route]?.includes(role) === true;
        const { status } = await browser.call(
          method,
          path,
          method === "GET" ? undefined : { nothing: 1 },
        );
        if (listed ? [401, 403].includes(status) : status !== 403)
          wrong.push(`${route}: ${status}`);
      }
      expect(wrong).toEqual([]);
    },
  );

  test("let administrators consent to contents and delete them, and the audit log names the person", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("admin");
    const { projectId } = registry;
    const path = `/api/projects/${projectId}`;
    const consent = await browser.call("PATCH", path, { contentLog: { retentionDays: 7 } });
    expect(consent.status).toBe(200);
    const forget = `/api/contents?project=${projectId}&user=ada`;
    expect((await browser.call("DELETE", forget)).status).toBe(200);
    const { body } = await registry.call(
      registry.adminKey,
      "GET",
      "/v1/organization/audit_logs?limit=2",
    );
    expect(body.data).toMatchObject([
      { type: "content.deleted", "content.deleted": { id: projectId, data: { user: "ada" } } },
      {
        type: "project.updated",
        "project.updated": {
          id: projectId,
          changes_requested: { contentLog: { retentionDays: 7, share: 1 } },
        },
      },
    ]);
    for (const { actor } of body.data) {
      expect(actor).toMatchObject({
        type: "session",
        session: { user: { id: expect.stringMatching(/^user_/) }, ip_address: "127.0.0.1" },
      });
    }
    const developer = new Browser(door.url);
    await developer.logIn("developer");
    expect((await developer.call("PATCH", path, { contentLog: null })).status).toBe(403);
    expect((await developer.call("DELETE", forget)).status).toBe(403);
    expect((await developer.call("GET", "/api/requests/req_1/content")).status).toBe(403);
  });

  test("hold at the registry too, whoever asks it directly", async () => {
    const browser = new Browser(door.url);
    await browser.logIn("viewer");
    const answer = await registry.call(browser.token ?? "", "POST", "/api/projects", {
      name: "mine",
    });
    expect(answer.status).toBe(403);
  });
});

test("a key that is revoked through one gateway is refused by another", async () => {
  const other = await createGateway({
    upstreams: [],
    registry: registry.app,
    operatorKey: registry.operatorKey,
    accounts: testAccounts().create,
    logger: quiet,
  });
  await other.start();
  const made = await registry.call(registry.adminKey, "POST", "/api/keys", {
    name: "short-lived",
    projectId: registry.projectId,
  });
  const use = async () => {
    const headers = { authorization: `Bearer ${made.body.key}` };
    return (await other.app.fetch(new Request("http://gateway/v1/models", { headers }))).status;
  };
  await vi.waitFor(async () => expect(await use()).toBe(200));
  const headers = { authorization: `Bearer ${registry.adminKey}` };
  const revoked = await fetch(`${door.url}/api/keys/${made.body.id}`, {
    method: "DELETE",
    headers,
  });
  expect(revoked.status).toBe(200);
  await vi.waitFor(async () => expect(await use()).toBe(401));
  await other.stop();
});

test("where nobody logs in there is nothing to log in to, and a session's token is no key", async () => {
  const plain = await createGateway({
    upstreams: [],
    registry: registry.app,
    operatorKey: registry.operatorKey,
    accounts: testAccounts().create,
    logger: quiet,
  });
  const ask = (path: string) => plain.app.fetch(new Request(`http://gateway${path}`));
  expect(await (await ask("/auth/session")).json()).toEqual({ enabled: false, user: null });
  expect((await ask("/auth/login")).status).toBe(404);
  await plain.stop();
});

async function audit(query: string) {
  const { body } = await registry.call(
    registry.adminKey,
    "GET",
    `/v1/organization/audit_logs?${query}`,
  );
  return body as { data: { type: string; actor: object }[] };
}
