import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { mayCall, permissions, role } from "../../sdk/protocol/roles.ts";
import { createDashboard } from "./dashboard.ts";

const dashboard = createDashboard();
const assets = fileURLToPath(new URL("assets/", import.meta.url));

test("the page and everything it names is served by this origin", async () => {
  const page = await dashboard.request("/");
  expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
  const html = await page.text();
  const named = [...html.matchAll(/(?:src|href)="([^"]+)"/g)]
    .map((match) => match[1] ?? "")
    // The page's own parts.
    .filter((address) => !address.startsWith("#"));
  expect(named).toContain("/assets/chart.js");
  for (const path of named) {
    expect(path).toMatch(/^\/assets\/[a-z-]+\.(js|css|svg)$/);
    expect((await dashboard.request(path)).status, path).toBe(200);
  }
  for (const name of readdirSync(assets).filter((file) => file.endsWith(".js"))) {
    const source = readFileSync(assets + name, "utf8");
    for (const [, path] of source.matchAll(/from "\.\/([^"]+)"/g)) {
      expect((await dashboard.request(`/assets/${path}`)).status, path).toBe(200);
    }
  }
});

test("the policy allows nothing inline, and there is nothing inline", async () => {
  const page = await dashboard.request("/");
  const policy = page.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("script-src 'self';");
  expect(policy).not.toContain("unsafe");
  expect(page.headers.get("x-content-type-options")).toBe("nosniff");
  const html = await page.text();
  expect(html).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\son[a-z]+=|\sstyle=|javascript:/i);
});

test("no script turns data into markup", () => {
  for (const name of readdirSync(assets)) {
    expect(readFileSync(assets + name, "utf8"), name).not.toMatch(
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/,
    );
  }
});

test("an asset that has not changed is not sent again, and only assets are served", async () => {
  const first = await dashboard.request("/assets/app.js");
  const etag = first.headers.get("etag") ?? "";
  const again = await dashboard.request("/assets/app.js", { headers: { "if-none-match": etag } });
  expect(again.status).toBe(304);
  for (const path of [
    "/assets/..%2fdashboard.ts",
    "/assets/dashboard.ts",
    "/assets/",
    "/assets/nothing.js",
  ]) {
    expect((await dashboard.request(path)).status, path).toBe(404);
  }
});

test("whoever sees a button may press it, and nobody misses one", async () => {
  const { rightsOver, rightsOverAdminKeys } = await import(`${assets}roles.js`);
  const id = "proj_1";
  const keys = `/v1/organization/projects/${id}/api_keys`;
  for (const theirs of role.options) {
    for (const projects of [[], [{ id, role: "member" }], [{ id, role: "owner" }]] as const) {
      const may = (method: string, path: string) =>
        mayCall({ role: theirs, projects }, method, path);
      expect(rightsOver({ role: "user", user: { role: theirs, projects } }, id)).toEqual({
        list: may("GET", keys),
        make: may("POST", "/api/keys"),
        rotate: may("POST", "/api/keys/key_1/rotate"),
        revoke: may("DELETE", `${keys}/key_1`),
        bound: may("PATCH", `/api/projects/${id}`),
        spend: may("POST", `/v1/organization/projects/${id}/spend_limit`),
      });
      const admins = "/v1/organization/admin_api_keys";
      expect(rightsOverAdminKeys({ role: "user", user: { role: theirs, projects } })).toEqual({
        list: may("GET", admins),
        make: may("POST", admins),
        rotate: may("GET", admins) && may("POST", "/api/keys/key_1/rotate"),
        revoke: may("DELETE", `${admins}/key_1`),
        ...{ bound: false, spend: false },
      });
      // Whoever sees a project's limits and budgets there may read them.
      for (const path of [`/api/projects/${id}`, "/api/budgets"]) {
        expect(may("GET", path)).toBe(true);
      }
    }
  }
  // Both lists of a project's keys are for the same roles.
  expect(permissions["GET /api/keys"]).toEqual(
    permissions["GET /v1/organization/projects/:id/api_keys"],
  );
  const keysOnly = { list: false, make: false, rotate: false, revoke: false };
  const none = { ...keysOnly, bound: false, spend: false };
  expect(rightsOver({ role: "project", projectId: id }, id)).toEqual(none);
  expect(rightsOverAdminKeys({ role: "project", projectId: id })).toEqual(none);
});

test("a key's state is the one that decides whether it is let in", async () => {
  const { stateOf } = await import(`${assets}roles.js`);
  const at = (ms: number) => new Date(ms).toISOString();
  const nowMs = Date.parse("2026-03-01T00:00:00Z");
  const later = at(nowMs + 1000);
  expect(stateOf({}, nowMs)).toBe("active");
  expect(stateOf({ previousUntil: later, expiresAt: later }, nowMs)).toBe("rotating");
  expect(stateOf({ previousUntil: at(nowMs) }, nowMs)).toBe("active");
  expect(stateOf({ suspendedAt: at(0), previousUntil: later }, nowMs)).toBe("suspended");
  expect(stateOf({ expiresAt: at(nowMs), suspendedAt: at(0) }, nowMs)).toBe("expired");
  expect(stateOf({ revokedAt: at(0), expiresAt: at(nowMs) }, nowMs)).toBe("revoked");
});

test("an amount is told with digits enough, however small", async () => {
  const { money } = await import(`${assets}format.js`);
  expect(money("0")).toBe("$0.00");
  expect(money("12.345")).toBe("$12.35");
  expect(money("0.05")).toBe("$0.0500");
  expect(money("0.00123")).toBe("$0.001230");
  expect(money("0.000000164")).toBe("$0.00000016");
  expect(money("-0.000000164")).toBe("-$0.00000016");
  expect(money("0.000000000001")).toBe("$0.000000000001");
  // All marks of an axis have as many places as its end.
  expect(money("0.00000005", 0.0000002)).toBe("$0.00000005");
});
