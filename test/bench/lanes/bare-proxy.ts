/** The peer of the gateway benchmark: the least that a Hono proxy can do, with Hono's own helper. */
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { proxy } from "hono/proxy";

const upstream = process.env.UPSTREAM ?? "";
const app = new Hono();
app.post("/v1/*", (c) => proxy(`${upstream}${c.req.path}`, { ...c.req, headers: c.req.header() }));

serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) =>
  console.log(`http://127.0.0.1:${port}`),
);
