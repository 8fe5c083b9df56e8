import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { createDashboard } from "./dashboard.ts";

const dashboard = createDashboard();
const assets = fileURLToPath(new URL("assets/", import.meta.url));

test("the page and everything it names is served by this origin", async () => {
  const page = await dashboard.request("/");
  expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
  const html = await page.text();
  const named = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? "");
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
