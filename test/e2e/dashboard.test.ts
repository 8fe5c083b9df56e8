/** The dashboard in a browser, in front of the whole product: by key and by people who log in, on a wide and a narrow screen. */
import { randomBytes } from "node:crypto";
import { connect, createServer, type Server } from "node:net";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { call, createTenant, eventually, type Tenant } from "../support/api.ts";
import { listen, providerSecret, startProvider } from "../support/open-id.ts";
import { findBrowser } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type SettingsFile, writeSettings } from "../support/settings.ts";

const executablePath = findBrowser();
const missing = executablePath ? undefined : "no browser is installed (CHROMIUM names one)";
/** A folder where screenshots are left to be looked at. */
const screenshots = process.env.TEST_SCREENSHOTS;
const screens = [
  { screen: "wide", width: 1280, height: 900 },
  { screen: "narrow", width: 400, height: 800 },
] as const;
const pages = ["costs", "requests", "keys"] as const;
const answer = "The answer that was kept.";

describe.skipIf(missing !== undefined)(missing ?? "in Chromium", () => {
  let browser: Browser;
  let emulator: OpenAiEmulator;
  let settings: SettingsFile;
  let idp: { server: import("node:http").Server; url: string };
  let door: { server: Server; url: string };
  let server: RunningServer;
  let alice: Tenant;
  let contexts: BrowserContext[] = [];

  beforeAll(async () => {
    door = await openDoor(() => server.url);
    idp = await startProvider(`${door.url}/auth/callback`, {
      olga: ["owners"],
      anna: ["admins"],
      vera: ["viewers"],
      fina: ["spenders"],
    });
    emulator = await startOpenAiEmulator({ answer: () => answer });
    settings = await writeSettings({
      upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
      models: [{ id: "gpt", upstream: "emulated" }],
      signIn: {
        issuer: idp.url,
        clientId: "switchyard",
        clientSecretEnv: "CLIENT_SECRET",
        publicUrl: door.url,
        roles: {
          ...{ owner: ["owners"], admin: ["admins"], viewer: ["viewers"], finance: ["spenders"] },
        },
      },
    });
    server = await startServer({
      env: {
        SWITCHYARD_CONFIG: settings.path,
        CONTENT_LOG_KEY: randomBytes(32).toString("base64"),
        CLIENT_SECRET: providerSecret,
      },
    });
    alice = await createTenant(server.url, server.adminKey, "alice", { contentLog: {} });
    browser = await chromium.launch({
      args: ["--no-sandbox"],
      ...(executablePath && { executablePath }),
    });
  });
  afterEach(async () => {
    for (const context of contexts) await context.close();
    contexts = [];
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await emulator?.close();
    await settings?.remove();
    door?.server.close();
    idp?.server.closeAllConnections();
    idp?.server.close();
  });

  test.each(screens)(
    "every page fits a $screen screen, is labelled, and is reached by keyboard",
    async ({ screen, width, height }) => {
      await ask(alice.key);
      const { page, problems } = await open({ width, height });
      await fits(page);
      await isLabelled(page);
      await shot(page, `${screen}-sign-in`);
      await signIn(page, server.adminKey);
      for (const name of pages) {
        await go(page, name);
        await fits(page);
        await isLabelled(page);
        expect(await page.title()).toMatch(/^(Costs|Requests|Keys) · Switchyard$/);
        await shot(page, `${screen}-${name}`);
      }
      for (const name of pages) {
        await go(page, name);
        const reached = await focusAll(page);
        for (const id of pages) expect(reached).toContain(`to-${id}`);
      }
      await page.click("#new-key");
      await page.click("#make-dialog summary");
      await fits(page);
      await isLabelled(page);
      await shot(page, `${screen}-make`);
      await page.click("#make-dialog >> text=Cancel");
      for (const what of ["limits", "spending"]) {
        await page.click(`#change-${what}`);
        await fits(page);
        await isLabelled(page);
        await shot(page, `${screen}-${what}`);
        await page.click(`#${what}-dialog >> text=Cancel`);
      }
      expect(problems).toEqual([]);
    },
  );

  test("an administrator's key makes a key, which works until it is revoked", async () => {
    const { page, problems } = await open();
    // A name of its own each time that it is tried.
    const name = `made by hand ${Date.now()}`;
    await signIn(page, server.adminKey);
    await go(page, "keys");
    await page.selectOption("#keys-of", { label: "alice" });
    await page.click("#new-key");
    expect(await page.textContent("#make-title")).toBe("Create a key for 'alice'");
    await page.fill("#make-name", name);
    await page.selectOption("#make-days", "30");
    await page.click("#make-dialog summary");
    await page.fill("#make-models", " gpt , another ");
    await page.click("#make-dialog button[type=submit]");
    const first = await takeSecret(page);
    expect(await status(first)).toBe(200);
    const row = page.locator("#keys tr", { hasText: name });
    await row.waitFor();
    expect(await row.textContent()).toContain(`sk-sy-***${first.slice(-4)}`);
    expect(await row.textContent()).toContain("models: gpt, another");
    expect(await page.content()).not.toContain(first);

    await row.locator("text=Rotate").click();
    await page.click("#rotate-dialog button[type=submit]");
    const second = await takeSecret(page);
    await page.waitForSelector(`#keys tr:has-text('${name}'):has-text('old text until')`);
    await shot(page, "keys-rotating");
    expect([await status(first), await status(second)]).toEqual([200, 200]);
    await row.locator("text=Rotate").click();
    await page.selectOption("#rotate-overlap", { label: "ends at once" });
    await page.click("#rotate-dialog button[type=submit]");
    const third = await takeSecret(page);
    expect([await status(second), await status(third)]).toEqual([401, 200]);
    // The list is read anew behind the dialog.
    await page.waitForSelector(`#keys tr:has-text('${third.slice(-4)}')`);

    await row.locator("text=Revoke").click();
    expect(await page.textContent("#revoke-name")).toBe(`${name} (sk-sy-***${third.slice(-4)})`);
    await shot(page, "keys-revoke");
    await page.click("#revoke-dialog >> text=Cancel");
    expect(await status(third)).toBe(200);
    await row.locator("text=Revoke").click();
    await page.click("#revoke-dialog button[type=submit]");
    await row.waitFor({ state: "detached" });
    expect(await status(third)).toBe(401);
    await page.check("#keys-ended");
    await page.waitForSelector(`#keys tr:has-text('${name}') >> text=revoked`);
    expect(problems).toEqual([]);
  });

  test("a project's limits and budgets are shown, and changed by who may", async () => {
    const rules = [{ kind: "tokens", limit: 5000, windowSeconds: 3600, each: ["user"] }];
    const made = await createTenant(server.url, server.adminKey, "bounded", {
      limits: { requestsPerMinute: 60, rules },
      budgets: [{ limitUsd: "7", period: "week", hard: false }],
    });
    const project = async () =>
      (await call(server.url, server.adminKey, "GET", `/api/projects/${made.projectId}`)).body;
    const { page, problems } = await open();
    await signIn(page, server.adminKey);
    await go(page, "keys");
    await page.selectOption("#keys-of", { label: "bounded" });
    await page.waitForSelector("text=60 requests a minute; 5,000 tokens in 3,600 s, each user");
    await page.waitForSelector("#bounds tr:has-text('$7.00 a week, only told')");
    await page.click("#change-limits");
    expect(await page.inputValue("#bound-requestsPerMinute")).toBe("60");
    await page.fill("#bound-requestsPerMinute", "");
    await page.fill("#bound-concurrentRequests", "3");
    await page.click("#limits-dialog button[type=submit]");
    await page.waitForSelector("text=All keys together: 3 at a time; 5,000 tokens");
    expect(await project()).toMatchObject({ limits: { concurrentRequests: 3, rules } });
    await page.click("#change-spending");
    await page.fill("#bound-limitUsd", "12.5");
    await page.click("#spending-dialog button[type=submit]");
    await page.waitForSelector("#bounds tr:has-text('$12.50 a month')");
    await shot(page, "bounds");

    // A key with bounds of its own.
    await page.click("#new-key");
    await page.fill("#make-name", "small");
    await page.click("#make-dialog summary");
    await page.fill("#make-tokens", "2000");
    await page.fill("#make-budget", "0.5");
    await page.click("#make-dialog button[type=submit]");
    await takeSecret(page);
    await page.waitForSelector("#keys tr:has-text('small') >> text=2,000 tokens a minute");
    await page.waitForSelector("#bounds tr:has-text('key small') >> text=$0.5000 a month");
    expect(problems).toEqual([]);

    const finance = await open();
    await logIn(finance.page, "fina");
    await go(finance.page, "keys");
    await finance.page.selectOption("#keys-of", { label: "bounded" });
    await finance.page.waitForSelector("#bounds tr:has-text('$12.50 a month')");
    expect(await finance.page.isVisible("#change-limits")).toBe(false);
    expect(await finance.page.isVisible("#keys-panel")).toBe(false);
    await finance.page.click("#change-spending");
    await finance.page.fill("#bound-limitUsd", "");
    await finance.page.click("#spending-dialog button[type=submit]");
    await finance.page
      .locator("#bounds tr", { hasText: "$12.50 a month" })
      .waitFor({ state: "detached" });
    expect(await project()).toMatchObject({ budgets: [{ limitUsd: "7" }] });
    expect(finance.problems).toEqual([]);
  });

  test("owners see admin keys, make one, and end it", async () => {
    const { page, problems } = await open();
    await logIn(page, "olga");
    await go(page, "keys");
    await page.selectOption("#keys-of", { label: "Admin keys" });
    await page.click("#new-key");
    expect(await page.textContent("#make-title")).toBe("Create an admin key");
    expect(await page.isVisible("#make-scopes")).toBe(false);
    await page.fill("#make-name", "terraform");
    await page.click("#make-dialog button[type=submit]");
    const key = await takeSecret(page);
    const may = async () => (await call(server.url, key, "GET", "/api/keys")).status;
    expect(await may()).toBe(200);
    const row = page.locator("#keys tr", { hasText: "terraform" });
    await row.waitFor();
    await shot(page, "keys-admins");
    await row.locator("text=Revoke").click();
    await page.click("#revoke-dialog button[type=submit]");
    await row.waitFor({ state: "detached" });
    expect(await may()).toBe(401);
    expect(problems).toEqual([]);

    const admin = await open();
    await logIn(admin.page, "anna");
    await go(admin.page, "keys");
    const titles = await admin.page.locator("#keys-of option").allTextContents();
    expect(titles).not.toContain("Admin keys");
  });

  test("what the API refuses is told where it was asked for, and nothing is made", async () => {
    const { page } = await open();
    await signIn(page, server.adminKey);
    await go(page, "keys");
    await page.selectOption("#keys-of", { label: "alice" });
    await page.click("#new-key");
    await page.fill("#make-name", "never made");
    await page.click("#make-dialog summary");
    await page.fill("#make-addresses", "not an address");
    await page.click("#make-dialog button[type=submit]");
    await page.waitForSelector("#make-error:not(:empty)");
    expect(await page.textContent("#make-error")).toContain("addresses");
    await shot(page, "make-refused");
    await page.click("#make-dialog >> text=Cancel");
    expect(await page.textContent("#keys")).not.toContain("never made");
  });

  test("a project's key sees its own costs and requests, and no keys", async () => {
    const { page, problems } = await open();
    await signIn(page, alice.key);
    await go(page, "requests");
    await page.waitForSelector("#latest tbody tr button");
    await go(page, "keys");
    await page.waitForSelector("text=No keys are yours to see");
    expect(await page.isVisible("#new-key")).toBe(false);
    expect((await call(server.url, alice.key, "GET", "/api/keys")).status).toBe(403);
    expect(problems).toEqual([]);
  });

  test("what was said is shown by a button to an administrator, and the audit log has who looked", async () => {
    const id = await ask(alice.key);
    await eventually("its content", async () => {
      const path = `/api/requests/${id}`;
      const { body } = await call(server.url, server.adminKey, "GET", path);
      return (body as { content?: object | null }).content ?? undefined;
    });
    const { page, problems } = await open();
    await signIn(page, server.adminKey);
    await go(page, "requests");
    await page.fill("#search [name=id]", id);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#detail[open]");
    expect(await page.isVisible("#content-text")).toBe(false);
    const read = `/v1/organization/audit_logs?event_types[]=content.read&resource_ids[]=${id}`;
    const audited = async () => {
      const { body } = await call(server.url, server.adminKey, "GET", read);
      return (body as { data: object[] }).data;
    };
    expect(await audited()).toEqual([]);
    await page.click("#show-content");
    await page.waitForSelector(`#content-text >> text=${answer}`);
    expect(await page.textContent("#content-text")).toContain("What is kept?");
    await shot(page, "content");
    expect(await audited()).toMatchObject([
      { type: "content.read", project: { id: alice.projectId } },
    ]);
    await page.keyboard.press("Escape");
    await page.waitForSelector("#detail:not([open])", { state: "attached" });
    expect(problems).toEqual([]);
  });

  test("the live log shows each request as it ends, by what is searched for, until it is stopped", async () => {
    const bob = await createTenant(server.url, server.adminKey, "bob");
    const { page, problems } = await open();
    await signIn(page, server.adminKey);
    await go(page, "requests");
    await page.waitForSelector("#search-project >> text=bob", { state: "attached" });
    await page.selectOption("#search-project", { label: "bob" });
    await page.click("#search >> text=Search");
    await page.waitForSelector("text=No request is like that.");
    await page.click("#live");
    await page.waitForSelector("text=New requests appear on top");
    const others = await ask(alice.key);
    const first = await ask(bob.key);
    await page.waitForSelector(`#latest tr[data-id="${first}"]`);
    await page.focus(`#latest tr[data-id="${first}"] button`);
    const second = await ask(bob.key);
    await page.waitForSelector(`#latest tr[data-id="${second}"]`);
    expect(await page.evaluate("document.activeElement.closest('tr').dataset.id")).toBe(first);
    expect(await page.locator(`#latest tr[data-id="${others}"]`).count()).toBe(0);
    await shot(page, "live");
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#detail[open] >> text=${first}`);
    await page.keyboard.press("Escape");
    await page.click("#live");
    expect(await page.getAttribute("#live", "aria-pressed")).toBe("false");
    expect(problems).toEqual([]);
  });

  test("an owner who logs in manages keys from this page, and no other page does with their session", async () => {
    const { page, problems } = await open();
    await logIn(page, "olga");
    await go(page, "keys");
    await page.selectOption("#keys-of", { label: "alice" });
    await page.click("#new-key");
    await page.fill("#make-name", "olga's");
    await page.click("#make-dialog button[type=submit]");
    const key = await takeSecret(page);
    expect(await status(key)).toBe(200);
    await page.locator("#keys tr", { hasText: "olga's" }).locator("text=Revoke").click();
    await page.click("#revoke-dialog button[type=submit]");
    await page.locator("#keys tr", { hasText: "olga's" }).waitFor({ state: "detached" });
    expect(await status(key)).toBe(401);
    const forged = await page.context().request.post(`${door.url}/api/keys`, {
      headers: { origin: "http://evil.example" },
      data: { name: "forged", projectId: alice.projectId },
    });
    expect(forged.status()).toBe(403);
    await page.click("text=Log out");
    await page.waitForSelector("#log-in:not([hidden])");
    expect(problems).toEqual([]);
  });

  test("an administrator who is no owner sees keys and revokes them, and makes none", async () => {
    const { body } = await call(server.url, server.adminKey, "POST", "/api/keys", {
      name: "for anna",
      projectId: alice.projectId,
    });
    const { page, problems } = await open();
    await logIn(page, "anna");
    await go(page, "keys");
    await page.selectOption("#keys-of", { label: "alice" });
    const row = page.locator("#keys tr", { hasText: "for anna" });
    await row.waitFor();
    expect(await page.isVisible("#new-key")).toBe(false);
    expect(await row.locator("text=Rotate").count()).toBe(0);
    await shot(page, "keys-admin");
    await row.locator("text=Revoke").click();
    await page.click("#revoke-dialog button[type=submit]");
    await row.waitFor({ state: "detached" });
    expect(await status((body as { key: string }).key)).toBe(401);
    expect(await statusInPage(page, "POST", "/api/keys")).toBe(403);
    expect(problems.filter((problem) => !problem.includes("403"))).toEqual([]);
  });

  test("a viewer has no buttons and is refused by the API; as a member they have keys of their own", async () => {
    const { page, problems } = await open();
    await logIn(page, "vera");
    await shot(page, "viewer-costs");
    await go(page, "requests");
    await page.waitForSelector("text=Single requests are not yours to see");
    await go(page, "keys");
    await page.waitForSelector("text=You are a member of no project yet");
    expect(await page.isVisible("#new-key")).toBe(false);
    expect(await page.locator("#keys button").count()).toBe(0);
    expect(await page.locator("#keys-of option").allTextContents()).toEqual(["My own keys"]);
    for (const [method, path] of [
      ["GET", "/api/keys"],
      ["POST", "/api/keys"],
      ["GET", `/v1/organization/projects/${alice.projectId}/api_keys`],
      ["GET", "/api/requests"],
    ] as const) {
      expect(await statusInPage(page, method, path), `${method} ${path}`).toBe(403);
    }
    // The browser itself logs what was refused.
    expect(problems.filter((problem) => !problem.includes("403"))).toEqual([]);

    const { keyId } = (await (
      await page.context().request.get(`${door.url}/api/whoami`)
    ).json()) as { keyId: string };
    const members = `/v1/organization/projects/${alice.projectId}/users`;
    const added = { user_id: keyId, role: "owner" };
    expect((await call(server.url, server.adminKey, "POST", members, added)).status).toBe(200);
    await eventually("membership", async () => {
      await page.reload();
      await page.waitForSelector("#page-keys:not([hidden])");
      const all = await page.locator("#keys-of option").allTextContents();
      return all.includes("alice") || undefined;
    });
    // As an owner of the project they see its keys, and end them.
    await page.waitForSelector("#keys tr:has-text('alice key')");
    expect(await page.locator("#keys >> text=Revoke").count()).toBeGreaterThan(0);
    expect(await page.isVisible("#new-key")).toBe(false);
    await page.selectOption("#keys-of", { label: "My own keys" });
    await page.click("#new-key");
    await page.fill("#make-name", "vera's notebook");
    await page.click("#make-dialog button[type=submit]");
    const key = await takeSecret(page);
    expect(await status(key)).toBe(200);
    await page.locator("#keys tr", { hasText: "vera's notebook" }).waitFor();
    await shot(page, "keys-own");
    await page.locator("#keys tr", { hasText: "vera's notebook" }).locator("text=Revoke").click();
    await page.click("#revoke-dialog button[type=submit]");
    await page.waitForSelector("text=No key yet.");
    expect(await status(key)).toBe(401);
  });

  /** A page that notes every error and every breach of its policy. */
  async function open(viewport = { width: 1280, height: 900 }) {
    const context = await browser.newContext({ viewport, colorScheme: "light" });
    contexts.push(context);
    const page = await context.newPage();
    const problems: string[] = [];
    page.on("console", (message) => {
      // The provider's own pages ask for fonts from elsewhere.
      const isOurs = message.location().url.startsWith(door.url);
      if (message.type() === "error" && isOurs) problems.push(message.text());
    });
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("dialog", (dialog) => problems.push(`a dialog: ${dialog.message()}`));
    await page.goto(door.url);
    await page.waitForSelector("#sign-in:not([hidden])");
    return { page, problems };
  }

  async function signIn(page: Page, key: string): Promise<void> {
    await page.fill("#key", key);
    await page.click("text=Open the dashboard");
    await page.waitForSelector("#page-costs:not([hidden])");
  }

  async function logIn(page: Page, as: string): Promise<void> {
    await page.click("#log-in");
    await page.fill("[name=login]", as);
    await page.fill("[name=password]", "any");
    await page.click("[type=submit]");
    await page.click("text=Continue");
    await page.waitForSelector(`#person:has-text("${as}@example.com")`);
    await page.waitForSelector("#page-costs:not([hidden])");
  }

  /** @returns the id of the request */
  async function ask(key: string): Promise<string> {
    const { status, headers } = await call(server.url, key, "POST", "/v1/chat/completions", {
      model: "gpt",
      messages: [{ role: "user", content: "What is kept?" }],
    });
    expect(status).toBe(200);
    return headers.get("x-request-id") ?? "";
  }

  /** Of a first use of the key. */
  async function status(key: string): Promise<number> {
    return (await call(server.url, key, "GET", "/v1/models")).status;
  }
});

async function go(page: Page, name: (typeof pages)[number]): Promise<void> {
  await page.click(`#to-${name}`);
  await page.waitForSelector(`#page-${name}:not([hidden]):not([aria-busy])`);
}

/** The key that is shown once, and is gone with its dialog. */
async function takeSecret(page: Page): Promise<string> {
  await page.waitForSelector("#secret-dialog[open]");
  const key = (await page.textContent("#secret")) ?? "";
  expect(key).toMatch(/^sk-sy-(?:admin-)?[0-9A-Za-z]{38}$/);
  expect(await page.textContent("#secret-try")).toContain(key);
  await shot(page, "secret");
  await page.click("#secret-dialog [data-close]");
  await page.waitForSelector("#secret:empty", { state: "attached" });
  return key;
}

/** Of a call that the page's own script makes with the session's cookie. */
function statusInPage(page: Page, method: string, path: string): Promise<unknown> {
  return page.evaluate(`fetch(${JSON.stringify(path)}, {
    method: ${JSON.stringify(method)}, ${method === "GET" ? "" : 'body: "{}",'}
  }).then((response) => response.status)`);
}

async function fits(page: Page): Promise<void> {
  // A chart follows its box in the next frame.
  const beyond = () =>
    page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
  await expect.poll(beyond).toBe(0);
}

/** One heading of the first rank, a language, and a name for whatever can be used. */
async function isLabelled(page: Page): Promise<void> {
  const unnamed = await page.evaluate(`(() => {
    const textOf = (its) => [...its].map((it) => it.textContent.trim()).join(" ");
    const nameOf = (it) =>
      it.getAttribute("aria-label") ||
      textOf(document.querySelectorAll("#" + (it.getAttribute("aria-labelledby") ?? "none"))) ||
      textOf(it.labels ?? []) ||
      (it.matches("button, a, summary") && it.textContent.trim());
    const all = "button, a, summary, input, select, table, canvas, fieldset, nav, dialog[open]";
    return [...document.querySelectorAll(all)]
      .filter((it) => it.checkVisibility() && !nameOf(it))
      .map((it) => it.outerHTML.slice(0, 200));
  })()`);
  expect(unnamed).toEqual([]);
  const headings =
    "[...document.querySelectorAll('h1')].filter((it) => it.checkVisibility()).length";
  expect(await page.evaluate(headings)).toBe(1);
  expect(await page.getAttribute("html", "lang")).toBe("en");
}

/** Walks once round by Tab; each that it comes to has to be seen to have the focus. @returns their ids */
async function focusAll(page: Page): Promise<string[]> {
  const reached = new Set<string>();
  for (let step = 0; step < 300; step++) {
    await page.keyboard.press("Tab");
    const at = (await page.evaluate(`(() => {
      const it = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(it);
      const isSeen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
      const round = it.dataset.walked !== undefined && !it.contains(window.lastWalked);
      it.dataset.walked = "";
      window.lastWalked = it;
      return { id: it.id || it.name || it.outerHTML, isSeen: isSeen || it === document.body, round };
    })()`)) as { id: string; isSeen: boolean; round: boolean };
    if (at.round) break;
    expect(at).toMatchObject({ isSeen: true });
    reached.add(at.id);
  }
  await page.evaluate(
    "document.querySelectorAll('[data-walked]').forEach((it) => delete it.dataset.walked)",
  );
  return [...reached];
}

async function shot(page: Page, name: string): Promise<void> {
  if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png` });
}

/** The address that people use stands before the server does; its port is known before the server has one. */
async function openDoor(target: () => string) {
  const server = createServer((socket) => {
    const { hostname, port } = new URL(target());
    const behind = connect(Number(port), hostname);
    socket.pipe(behind).pipe(socket);
    socket.on("error", () => behind.destroy());
    behind.on("error", () => socket.destroy());
  });
  const url = await listen(server as import("node:http").Server);
  return { server, url };
}
