/** Two tenants of one installation: neither sees, names, uses or is billed for what is the other's. */
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import OpenAI, { NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { operations } from "../../gateway/openapi/operations.ts";
import type { Operation } from "../../sdk/protocol/openapi/operation.ts";
import { call, createTenant, eventually, pushAdapter, type Tenant } from "../support/api.ts";
import {
  type Belongings,
  furnish,
  type Kind,
  type Naming,
  namings,
  nowhere,
} from "../support/belongings.ts";
import { type RunningServer, startServer } from "../support/server.ts";

const adapterFolder = fileURLToPath(
  new URL("../../deploy/demo-model/adapters/tone-formal", import.meta.url),
);

let server: RunningServer;
let alice: Tenant;
let bob: Tenant;
let adapterId: string;
let digest: string;
beforeAll(async () => {
  server = await startServer({ env: { CONTENT_LOG_KEY: randomBytes(32).toString("base64") } });
  alice = await createTenant(server.url, server.adminKey, "alice", { team: "red" });
  bob = await createTenant(server.url, server.adminKey, "bob", { team: "blue" });
  const pushed = await pushAdapter(
    server.url,
    alice.key,
    { base: "support-tiny", name: "secret-tone", alias: "candidate" },
    adapterFolder,
  );
  expect(pushed.status).toBe(201);
  const { adapter, version } = pushed.body as Record<string, { id: string; digest: string }>;
  adapterId = adapter?.id ?? "none";
  digest = version?.digest ?? "none";
});
afterAll(() => server?.stop());

describe("an adapter of one tenant", () => {
  test("answers its owner", async () => {
    const answer = await clientOf(alice).chat.completions.create({
      model: "support-tiny:secret-tone@1",
      max_tokens: 24,
      messages: [{ role: "user", content: "Where is my parcel?" }],
    });
    expect(answer.choices[0]?.message.content).toMatch(/^Dear customer,/);
  });

  test("is the same 404 for the other tenant as a model that never was, and no near match tells of it", async () => {
    const refusals = await Promise.all(
      ["support-tiny:secret-tone@1", "support-tiny:secret-tome@1"].map((model) =>
        clientOf(bob)
          .chat.completions.create({ model, messages: [{ role: "user", content: "x" }] })
          .catch((error: unknown) => error as InstanceType<typeof NotFoundError>),
      ),
    );
    const [foreign, absent] = refusals as InstanceType<typeof NotFoundError>[];
    expect(foreign).toBeInstanceOf(NotFoundError);
    expect(foreign?.code).toBe("model_not_found");
    expect(foreign?.message.replace("secret-tone", "secret-tome")).toBe(absent?.message);
  });

  test("is in no list of the other's", async () => {
    const models = await clientOf(bob).models.list();
    expect(models.data.map(({ id }) => id).filter((id) => id.includes("secret"))).toEqual([]);
    const adapters = await call(server.url, bob.key, "GET", "/api/adapters");
    expect(JSON.stringify(adapters.body)).not.toContain("secret-tone");
    expect((await call(server.url, bob.key, "GET", `/api/adapters/${adapterId}`)).status).toBe(404);
    expect(
      (await call(server.url, bob.key, "GET", `/api/adapters/${adapterId}/history`)).status,
    ).toBe(404);
  });

  test("cannot be moved by the other", async () => {
    const moved = await call(
      server.url,
      bob.key,
      "PUT",
      `/api/adapters/${adapterId}/aliases/champion`,
      { version: 1, expect: null, force: true },
    );
    expect(moved.status).toBe(404);
  });
});

describe("money and records of one tenant", () => {
  test("are the other's in no report", async () => {
    await clientOf(alice).chat.completions.create({
      model: "support-tiny",
      max_tokens: 8,
      messages: [{ role: "user", content: "hello" }],
    });
    const own = await eventually("the cost", async () => {
      const report = await call(
        server.url,
        alice.key,
        "GET",
        "/api/reports/costs?group_by=project",
      );
      return JSON.stringify(report.body).includes(alice.projectId) ? report : undefined;
    });
    expect(own.status).toBe(200);
    const others = await call(
      server.url,
      bob.key,
      "GET",
      "/api/reports/costs?group_by=project,model,adapter",
    );
    expect(JSON.stringify(others.body)).not.toContain(alice.projectId);
    expect(JSON.stringify(others.body)).not.toContain("secret-tone");
    const requests = await call(server.url, bob.key, "GET", "/api/requests");
    expect(
      (requests.body as { data: unknown[] }).data.every((row) =>
        JSON.stringify(row).includes(bob.projectId),
      ),
    ).toBe(true);
  });

  test("need an admin key where they span tenants", async () => {
    const costs = await call(server.url, bob.key, "GET", "/v1/organization/costs?start_time=0");
    expect(costs.status).toBe(403);
    const keys = await call(server.url, bob.key, "GET", "/api/keys");
    expect(keys.status).toBe(403);
  });
});

describe("every operation that is served", () => {
  let belongings: Belongings;
  beforeAll(async () => {
    const names = { base: "support-tiny", name: "secret-tone", alias: "candidate" };
    belongings = await furnish({
      ...{ url: server.url, adminKey: server.adminKey, tenant: alice, other: bob },
      pushed: { id: adapterId, digest, ...names },
    });
    // What the other has makes lists that would be empty ones of somebody.
    await furnishBob();
  });

  test("is known by what it names, and one that is not says what to add", () => {
    for (const operation of operations) namings(operation, belongings);
    const models = operations.find(({ id }) => id === "listModels") as Operation;
    const strange = { ...models, id: "strange", path: "/v1/threads/{id}" };
    expect(() => namings(strange, belongings)).toThrow(/takes as \{id\} \(strange\).*`inPath`/);
    const listed = { ...strange, path: "/v1/threads", query: z.object({ thread: z.string() }) };
    expect(() => namings(listed, belongings)).toThrow(/\?thread= is \(strange\).*`inQuery`/);
    const asked = { ...strange, path: "/v1/threads", body: { schema: z.object({}) } };
    expect(() => namings(asked, belongings)).toThrow(/body may name \(strange\).*`inBody`/);
  });

  test("tells its owner of all that there is, and of nothing else after the other tried everything", async () => {
    const before = await lookAtAll(belongings);
    const missing = before.filter(({ status }) => status !== 200);
    expect(missing).toEqual([]);
    const crossed: unknown[] = [];
    for (const operation of operations) crossed.push(...(await crossings(operation, belongings)));
    expect(crossed).toEqual([]);
    expect(await lookAtAll(belongings)).toEqual(before);
  });

  test("takes nothing of the other's into one's own", async () => {
    const own = async (path: string, body: unknown) =>
      (await call(server.url, bob.key, "POST", path, body)).body as { id: string };
    const conversation = await own("/v1/conversations", {});
    const upload = await own("/v1/uploads", {
      ...{ filename: "a.jsonl", purpose: "batch", bytes: 12, mime_type: "text/jsonl" },
    });
    const answers = async ({ item, part }: Belongings) => {
      const at = `/v1/conversations/${conversation.id}/items/${item}`;
      const all = [
        await call(server.url, bob.key, "GET", at),
        await call(server.url, bob.key, "DELETE", at),
        await call(server.url, bob.key, "POST", `/v1/uploads/${upload.id}/complete`, {
          part_ids: [part],
        }),
      ];
      return all.map(({ status, body }) =>
        `${status} ${JSON.stringify(body)}`.replaceAll(item, "<item>").replaceAll(part, "<part>"),
      );
    };
    const theirs = await answers(belongings);
    expect(theirs).toEqual(await answers(absent(belongings)));
    expect(theirs.map((one) => one.slice(0, 3))).toEqual(["404", "404", "400"]);
  });

  test("follows one's own requests alone", async () => {
    const told = await fetch(`${server.url}/api/requests/stream`, {
      headers: { authorization: `Bearer ${bob.key}` },
    });
    const turn = { role: "user", content: "hello" };
    const ask = { model: "support-tiny", max_tokens: 8, messages: [turn] };
    for (const { key } of [alice, bob])
      expect((await call(server.url, key, "POST", "/v1/chat/completions", ask)).status).toBe(200);
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of told.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes(bob.projectId)) break;
    }
    expect(text).not.toContain(alice.projectId);
  });
});

function clientOf(tenant: Tenant): OpenAI {
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
}

/** What tells the other more of what is Alice's than of what is nowhere. */
async function crossings(operation: Operation, own: Belongings): Promise<unknown[]> {
  if (operation.access === "anyone") return [];
  const gone = absent(own);
  const others = namings(operation, gone);
  const found: unknown[] = [];
  for (const [at, naming] of namings(operation, own).entries()) {
    const elsewhere = others[at] as Naming;
    const [theirs, nobodys] = [
      await send(bob.key, operation, naming),
      await send(bob.key, operation, elsewhere),
    ];
    const says = JSON.stringify([naming.path, naming.query, naming.body]);
    const tell = (why: string) =>
      found.push({ operation: operation.id, says, why, theirs, nobodys });
    const told = Object.entries(own).filter(([kind]) => !isEverybodys.has(kind));
    const ids = told.filter(([, id]) => says.includes(id) || says.includes(encodeURIComponent(id)));
    const named = ids.map(([kind]) => kind as Kind);
    const isOne = masked(theirs, own, named) === masked(nobodys, gone, named);
    if (ids.length > 0 && !isOne) tell("it is another answer");
    const wanted = operation.access === "admin" ? 403 : 404;
    if (operation.path.includes("{") && theirs.status !== wanted) tell(`it is no ${wanted}`);
    for (const [kind, id] of told) {
      if (theirs.status < 400 && theirs.text.includes(id) && !ids.some(([it]) => it === kind))
        tell(`it has the ${kind}`);
    }
  }
  return found;
}

/** The same of what is nowhere. */
function absent(own: Belongings): Belongings {
  const entries = Object.entries(own);
  return Object.fromEntries(
    entries.map(([kind, id]) => [kind, isEverybodys.has(kind) ? id : nowhere(id)]),
  ) as Belongings;
}

type Answer = { status: number; headers: string; text: string };

async function send(
  key: string,
  { method, body, endless }: Operation,
  naming: Naming,
): Promise<Answer> {
  const type = body?.type ?? "application/json";
  const isForm = type === "multipart/form-data";
  const form = new FormData();
  for (const [name, value] of Object.entries(naming.body?.form ?? {}))
    form.set(name, value as string | Blob);
  const isJson = type === "application/json";
  const response = await fetch(`${server.url}${naming.path}?${naming.query}`, {
    method: method.toUpperCase(),
    headers: {
      authorization: `Bearer ${key}`,
      ...(body && !isForm && { "content-type": type }),
    },
    ...(body && {
      body: isForm ? form : isJson ? JSON.stringify(naming.body ?? {}) : String(naming.body),
    }),
  });
  const headers = [...response.headers].filter(([name]) => !isOfTheMoment.test(name));
  const isEndless = endless && response.ok;
  if (isEndless) await response.body?.cancel();
  return {
    status: response.status,
    headers: JSON.stringify(headers),
    text: isEndless ? "" : await response.text(),
  };
}

/** What an owner, and for what is theirs an administrator, sees. */
async function lookAtAll(own: Belongings) {
  const seen: object[] = [];
  for (const operation of operations) {
    const { method, path, access, endless } = operation;
    const isAdmins = access === "admin";
    if (method !== "get" || access === "anyone" || endless) continue;
    if (isNobodysToRead.has(operation.id) || (isAdmins && !path.includes("{"))) continue;
    const [naming] = namings(operation, own);
    if (!naming) continue;
    const answer = await send(isAdmins ? server.adminKey : alice.key, operation, naming);
    // A report is of the time until now, and that somebody looked is an event.
    let text = answer.text.replace(/"(from|to)":"[^"]*"/g, "");
    if (operation.id === "listEvents") {
      const { data } = JSON.parse(text) as { data: { type: string }[] };
      text = JSON.stringify(data.filter(({ type }) => type !== "content.read"));
    }
    seen.push({ id: operation.id, path: naming.path, ...answer, text });
  }
  return seen as ({ id: string } & Answer)[];
}

/** The same of each, whatever it was asked for. */
function masked({ status, headers, text }: Answer, names: Belongings, kinds: Kind[]): string {
  let all = `${status} ${headers} ${text}`;
  for (const kind of kinds) {
    all = all.replaceAll(names[kind], "<id>");
    // Of an adapter some messages tell the name alone.
    if (kind === "model") all = all.replaceAll(names.model.replace(/.*:|@.*/g, ""), "<id>");
  }
  return all.replace(/req_\w{26}/g, "<request>");
}

/** The demo shares an adapter of the same weights. */
const isEverybodys: ReadonlySet<string> = new Set(["base", "alias", "digest", "ofTheOther"]);
const isOfTheMoment =
  /^(?:date|x-request-id|x-ratelimit-.*|openai-processing-ms|access-control-.*|connection|keep-alive)$/;
/** Of catalogue models none is a tenant's, and people exist where they log in. */
const isNobodysToRead: ReadonlySet<string> = new Set([
  "getCatalogModel",
  "getUser",
  "getProjectUser",
]);

async function furnishBob(): Promise<void> {
  const turn = { role: "user", content: "hello" };
  const ask = { model: "support-tiny", max_tokens: 8, messages: [turn], store: true };
  await call(server.url, bob.key, "POST", "/v1/chat/completions", ask);
  await call(server.url, bob.key, "POST", "/v1/conversations", { items: [turn] });
}
