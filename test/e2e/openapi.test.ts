/** The OpenAPI document tells what is served: every route, nothing else, and answers as they come. */
import type { RouterRoute } from "hono/types";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createApp as createEvals } from "../../evals/app.ts";
import { MasterKeys } from "../../gateway/content-log/master-keys.ts";
import { openApiDocument } from "../../gateway/openapi/document.ts";
import { operations } from "../../gateway/openapi/operations.ts";
import { createReports } from "../../gateway/reports/reports.ts";
import type { Operation } from "../../sdk/protocol/openapi/operation.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { faultOf } from "../support/openapi.ts";
import { testSnapshot } from "../support/policy.ts";
import { refusingServer } from "../support/refusals.ts";
import { openTestRegistry, type TestRegistry } from "../support/registry.ts";

/** Pages for people, and what only the other services of an installation ask for. */
const untold = [
  "GET /",
  "GET /assets/*",
  "GET /api/snapshot",
  "GET /api/artifacts/:sha256",
  "GET /api/adapter-versions/:digest",
  "POST /api/events",
  "POST /api/keys/used",
  "POST /api/sessions",
  "POST /api/sessions/rotate",
  "POST /api/sessions/end",
  "GET /auth/login",
  "GET /auth/callback",
  "GET /auth/session",
  "POST /auth/token",
  "POST /auth/logout",
  // Refused by name.
  "POST /v1/responses/compact",
];
const served = ({ method, path, served }: Operation) =>
  `${method.toUpperCase()} ${served ?? path.replace(/\{(\w+)\}/g, ":$1")}`;

describe("the table of routes", () => {
  let gateway: TestGateway;
  let registry: TestRegistry;
  let routes: RouterRoute[];
  beforeAll(async () => {
    const responseCache = { close() {} } as never;
    const contents = { sql: {} as never, masterKeys: new MasterKeys(undefined) };
    const parts = { kept: {} as never, filing: {} as never, responseCache, contents };
    gateway = await startTestGateway({ snapshot: testSnapshot(), ...parts });
    registry = await openTestRegistry();
    // Of these two only the addresses are looked at.
    const evals = createEvals({} as Parameters<typeof createEvals>[0]);
    const reports = createReports({} as Parameters<typeof createReports>[0]);
    routes = [gateway.gateway.app, registry.app, evals, reports].flatMap((app) => app.routes);
  });
  afterAll(async () => {
    await gateway.close();
    await registry.close();
  });

  test("has every address that is told, and tells every one that it has", () => {
    const named = routes.filter(({ method }) => method !== "ALL" && method !== "OPTIONS");
    const found = new Set(named.map(({ method, path }) => `${method} ${path}`));
    const told = new Set(operations.map(served));
    expect([...found].filter((route) => !told.has(route) && !untold.includes(route))).toEqual([]);
    expect([...told].filter((route) => !found.has(route))).toEqual([]);
  });

  test("hands nothing on that is not told", () => {
    const all = routes.filter(({ method }) => method === "ALL").map(({ path }) => path);
    const isTold = (pattern: string) => {
      const matcher = new RegExp(
        `^${pattern.replace(/:\w+/g, "[^/]+").replaceAll("/*", "(?:/.*)?")}$`,
      );
      return operations.some(({ path }) => matcher.test(path));
    };
    expect(all.filter((path) => path !== "/" && !isTold(path))).toEqual([]);
  });

  test("gives each operation a name of its own", () => {
    const ids = operations.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});

describe("the running product", () => {
  const service = refusingServer();
  const keyOf = ({ access }: Operation) =>
    access === "anyone" ? "" : access === "admin" ? service.server.adminKey : service.tenant.key;

  async function ask(operation: Operation, key: string) {
    const { method, path, body } = operation;
    const address = path
      .replaceAll("{model}", "support-tiny")
      .replaceAll("{publisher}", "google")
      .replace(/\{\w+\}/g, "unknown");
    const query = operation.query && "start_time" in operation.query.shape ? "?start_time=0" : "";
    const example = JSON.stringify(body?.example ?? {}).replaceAll('"auto"', '"support-tiny"');
    const isJson = body !== undefined && body.type === undefined;
    const response = await service.send(address + query, {
      method: method.toUpperCase(),
      key,
      ...(body && { body: isJson ? example : String(body.example ?? "") }),
      ...(body && { headers: { "content-type": body.type ?? "application/json" } }),
    });
    const type = response.headers.get("content-type") ?? "";
    if (operation.endless && response.ok) {
      await response.body?.cancel();
      return { status: response.status, type, text: "" };
    }
    return { status: response.status, type, text: await response.text() };
  }

  test("serves the document that the sources write", async () => {
    const served = await service.send("/openapi.json", { key: "" });
    expect(served.status).toBe(200);
    expect(await served.json()).toEqual(JSON.parse(JSON.stringify(openApiDocument())));
  });

  test.each(operations.map((operation) => [operation.id, operation] as const))(
    "%s answers as it is told to, with a key and without",
    async (_, operation) => {
      const answered = await ask(operation, keyOf(operation));
      expect(faultOf(operation, answered)).toBeUndefined();
      expect(`${answered.status} ${answered.text.slice(0, 300)}`).not.toMatch(
        /^404 .*unknown_url/s,
      );
      if (operation.access === "anyone") return;
      const unknown = await ask(operation, "");
      expect(unknown.status).toBe(401);
      expect(faultOf(operation, unknown)).toBeUndefined();
    },
  );

  test.each(operations.filter(({ access }) => access === "admin"))(
    "$id is an admin's alone",
    async (operation) => {
      const refused = await ask(operation, service.tenant.key);
      expect(refused.status).toBe(403);
      expect(faultOf(operation, refused)).toBeUndefined();
    },
  );
});
