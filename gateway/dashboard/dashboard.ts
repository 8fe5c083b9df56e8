/** The dashboard: one page, its scripts and styles, read from disk once and served with a strict policy. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { Hono } from "hono";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";

/** `GET /` and `GET /assets/*`. Everything the page shows, it asks `/api` for with the reader's key. */
export function createDashboard(): Hono {
  const assets = readAssets();
  const app = new Hono();
  const serve = (name: string, ifNoneMatch: string | undefined): Response => {
    const asset = assets.get(name);
    if (asset === undefined) {
      return toErrorResponse(new HubError("unknown_url", `There is no asset '${name}'.`));
    }
    const headers = { ...securityHeaders, "cache-control": "no-cache", etag: asset.etag };
    if (ifNoneMatch === asset.etag) return new Response(null, { status: 304, headers });
    return new Response(asset.body, { headers: { ...headers, "content-type": asset.type } });
  };
  app.get("/", (c) => serve("index.html", c.req.header("if-none-match")));
  app.get("/assets/:name", (c) => serve(c.req.param("name"), c.req.header("if-none-match")));
  return app;
}

type Asset = { body: Uint8Array<ArrayBuffer>; type: string; etag: string };

/** Our own files by name, and Chart.js from its package: no build step, no third party's server. */
function readAssets(): Map<string, Asset> {
  const folder = fileURLToPath(new URL("assets/", import.meta.url));
  const chart = fileURLToPath(new URL("chart.umd.min.js", import.meta.resolve("chart.js")));
  const files = [...readdirSync(folder).map((name) => [name, folder + name] as const)];
  return new Map(
    [...files, ["chart.js", chart] as const].map(([name, path]) => [name, readAsset(path)]),
  );
}

function readAsset(path: string): Asset {
  const body = new Uint8Array(readFileSync(path));
  const type = contentTypes[extname(path)];
  if (type === undefined) throw new Error(`an asset of unknown type: ${path}`);
  return { body, type, etag: `"${createHash("sha256").update(body).digest("base64url")}"` };
}

const contentTypes: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Scripts, styles and requests of this origin only; nothing inline, no frames, no forms sent anywhere. */
const securityHeaders = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};
