/** Listens to the clients of an app. */
import { type ServerType, serve } from "@hono/node-server";
import type { Hono } from "hono";
import type { ServerLimits } from "./config.ts";

/** The caller closes it. @param onListening hears the port that it got */
export function listen(
  app: Pick<Hono, "fetch">,
  { host, port, limits }: { host: string; port: number; limits: Pick<ServerLimits, "keepAliveMs"> },
  onListening: (port: number) => void,
): ServerType {
  const listener = serve({ fetch: app.fetch, hostname: host, port }, (bound) =>
    onListening(bound.port),
  );
  if ("keepAliveTimeout" in listener) listener.keepAliveTimeout = limits.keepAliveMs;
  return listener;
}
