/** The HTTP surface of evals: datasets, and runs that measure candidates on them. */
import { Hono } from "hono";
import type { Logger } from "pino";
import { z } from "zod";
import { asUnstorable } from "../sdk/protocol/database-errors.ts";
import { asHubError, HubError, parseOrThrow, toErrorResponse } from "../sdk/protocol/errors.ts";
import { type ProjectId, projectId, sha256 } from "../sdk/protocol/ids.ts";
import type { Limits } from "./config.ts";
import { type Datasets, datasetCursor } from "./datasets/datasets.ts";
import { type Caller, identify, visibleProject } from "./identity.ts";
import type { RegistryClient } from "./registry-client.ts";
import type { Runs } from "./runs/runs.ts";
import type { RunStore } from "./runs/store.ts";

export type AppParts = {
  registry: RegistryClient;
  datasets: Datasets;
  runs: Runs;
  store: RunStore;
  limits: Limits;
  log: Pick<Logger, "error">;
};

type Env = { Variables: { caller: Caller } };

/** Every route wants a key; a project's key sees its own project's things, and others' are 404. */
export function createApp(parts: AppParts): Hono<Env> {
  const { datasets, runs, store, limits } = parts;
  const app = new Hono<Env>();

  app.get("/healthz", (c) => c.json({ status: "ok" }));
  app.use("/api/*", async (c, next) => {
    c.set("caller", await identify(parts.registry, c.req.raw.headers));
    await next();
  });

  app.post("/api/datasets", async (c) => {
    const { name, projectId: named } = parseOrThrow(pushQuery, c.req.query());
    const pushed = await datasets.push({
      projectId: owningProject(c.var.caller, named),
      name,
      createdBy: c.var.caller.keyId,
      bytes: await readBytes(c.req.raw, {
        what: "A dataset",
        bytesMax: limits.datasetBytesMax,
        advice: "Push a sample of it, or split it.",
      }),
    });
    return c.json(pushed.dataset, pushed.created ? 201 : 200);
  });
  app.get("/api/datasets", async (c) => {
    const page = parseOrThrow(pageQuery(limits.pageMax), c.req.query());
    const found = await datasets.list(visibleProject(c.var.caller), more(page));
    return c.json(toList(found, page.limit, datasetCursor));
  });
  app.get("/api/datasets/:sha256", async (c) => {
    const digest = parseOrThrow(sha256, c.req.param("sha256"), "sha256");
    return c.json(await datasets.get(digest, visibleProject(c.var.caller)));
  });

  app.post("/api/evals/runs", async (c) =>
    c.json(await runs.create(c.var.caller, await readJson(c.req.raw, limits.jsonBytesMax)), 201),
  );
  app.get("/api/evals/runs", async (c) => {
    const page = parseOrThrow(pageQuery(limits.pageMax), c.req.query());
    const found = await store.list(visibleProject(c.var.caller), more(page));
    return c.json(toList(found, page.limit, ({ id }) => id));
  });
  app.get("/api/evals/runs/:id", async (c) =>
    c.json(await store.tell(c.req.param("id"), visibleProject(c.var.caller))),
  );
  app.post("/api/evals/runs/:id/cancel", async (c) =>
    c.json(await runs.cancel(c.var.caller, c.req.param("id"))),
  );
  app.post("/api/evals/runs/:id/resume", async (c) =>
    c.json(await runs.resume(c.var.caller, c.req.param("id"))),
  );
  app.get("/api/evals/runs/:id/results", async (c) => {
    const { id } = await store.row(c.req.param("id"), visibleProject(c.var.caller));
    const query = parseOrThrow(answersQuery(limits.answersPageMax), c.req.query());
    const found = await store.answers(id, more(query));
    return c.json(toList(found, query.limit, (answer) => answer.id));
  });

  app.notFound((c) =>
    toErrorResponse(
      new HubError("unknown_url", `Unknown request URL: ${c.req.method} ${c.req.path}.`),
    ),
  );
  app.onError((thrown, c) => {
    const error = asUnstorable(thrown) ?? thrown;
    if (asHubError(error).code === "internal_error") {
      parts.log.error({ err: error, path: c.req.path }, "request failed");
    }
    return toErrorResponse(error);
  });
  return app;
}

/** A project's key pushes to its own project; an admin says to which. */
function owningProject(caller: Caller, named: ProjectId | undefined): ProjectId {
  const own = visibleProject(caller);
  if (own !== undefined && (named === undefined || named === own)) return own;
  if (own === undefined && named !== undefined) return named;
  throw own === undefined
    ? new HubError(
        "missing_required_parameter",
        "An admin key has to say for which project: add ?projectId=proj_...",
        {
          param: "projectId",
        },
      )
    : new HubError("not_found", `There is no project '${named}'.`, { param: "projectId" });
}

async function readJson(request: Request, bytesMax: number): Promise<unknown> {
  const advice = "Ask for less at a time.";
  const bytes = await readBytes(request, { what: "A request's JSON", bytesMax, advice });
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new HubError("invalid_json", "The request body is not valid JSON.", { cause });
  }
}

/** @throws HubError `request_too_large`, by its length or before more than the bound is held in memory */
async function readBytes(
  request: Request,
  { what, bytesMax, advice }: { what: string; bytesMax: number; advice: string },
): Promise<Uint8Array> {
  const tooLarge = () =>
    new HubError("request_too_large", `${what} has at most ${bytesMax} bytes. ${advice}`);
  if (Number(request.headers.get("content-length") ?? 0) > bytesMax) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > bytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** One row more than asked for tells whether there is another page. */
function more<T extends { limit: number }>(page: T): T {
  return { ...page, limit: page.limit + 1 };
}

function toList<T>(found: readonly T[], limit: number, idOf: (item: T) => string) {
  const data = found.slice(0, limit);
  const [first, last] = [data[0], data.at(-1)];
  return {
    object: "list" as const,
    data,
    has_more: found.length > limit,
    first_id: first === undefined ? null : idOf(first),
    last_id: last === undefined ? null : idOf(last),
  };
}

const pushQuery = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(128)
    .regex(/^\P{Cc}*$/u, "expected no control characters")
    .default("dataset"),
  projectId: projectId.optional(),
});
const limit = (max: number) => z.coerce.number().int().min(1).max(max).default(Math.min(max, 20));
const pageQuery = (max: number) =>
  z.strictObject({ limit: limit(max), after: z.string().max(128).optional() });
const answersQuery = (max: number) =>
  z.strictObject({
    limit: limit(max),
    candidate: z.string().max(512).optional(),
    failed: z
      .enum(["true", "false"])
      .default("false")
      .transform((text) => text === "true"),
    after: z
      .string()
      .regex(/^\d{1,9}\.\d{1,9}$/, "expected the id of a result, such as 0.17")
      .transform((text) => {
        const [position = 0, row = 0] = text.split(".").map(Number);
        return { position, row };
      })
      .optional(),
  });
