/** Two tenants of one installation: neither sees, names, uses or is billed for what is the other's. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { text as textOf } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import OpenAI, { NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { newBatch } from "../../gateway/batches/routes.ts";
import { operations } from "../../gateway/openapi/operations.ts";
import { type ErrorCode, errorTable } from "../../sdk/protocol/errors.ts";
import type { Operation } from "../../sdk/protocol/openapi/operation.ts";
import { type RealtimeEmulator, startRealtimeEmulator } from "../emulators/openai-realtime.ts";
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
import { demoBase, type SettingsFile, writeSettings } from "../support/settings.ts";

const adapterFolder = fileURLToPath(
  new URL("../../deploy/demo-model/adapters/tone-formal", import.meta.url),
);

let provider: RealtimeEmulator;
let settings: SettingsFile;
let server: RunningServer;
let alice: Tenant;
let bob: Tenant;
let adapterId: string;
let digest: string;
beforeAll(async () => {
  provider = await startRealtimeEmulator();
  settings = await writeSettings({
    embedded: demoBase,
    upstreams: [
      { name: "talking", type: "openai", baseUrl: provider.baseUrl, apiKeyEnv: "TALKING_KEY" },
    ],
    models: [{ id: "talker", upstream: "talking", prices: { input: "1", output: "1" } }],
  });
  server = await startServer({
    env: {
      CONTENT_LOG_KEY: randomBytes(32).toString("base64"),
      SWITCHYARD_CONFIG: settings.path,
      TALKING_KEY: "sk-media",
    },
  });
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
afterAll(async () => {
  await server?.stop();
  await provider?.close();
  await settings?.remove();
});

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

  test("tells in the lines of a batch no more than it tells of each alone", async () => {
    const before = await lookAtAll(belongings);
    const gone = absent(belongings);
    const crossed: unknown[] = [];
    for (const endpoint of newBatch.shape.endpoint.options) {
      const bodies = [belongings, gone].map((own) => namings(posts(endpoint), own).map(bodyOf));
      const [theirs = [], nobodys = []] = await Promise.all(
        bodies.map((lines) => runBatch(bob.key, endpoint, lines)),
      );
      for (const [at, body] of (bodies[0] ?? []).entries()) {
        const answers: Answers = [theirs[at] as Answer, nobodys[at] as Answer];
        for (const why of told(JSON.stringify(body), answers, belongings))
          crossed.push({ endpoint, body, why, answers });
      }
    }
    expect(crossed).toEqual([]);
    expect(await lookAtAll(belongings)).toEqual(before);
    const own = {
      model: "support-tiny",
      input: "hello",
      previous_response_id: belongings.response,
    };
    expect(await runBatch(alice.key, "/v1/responses", [own])).toMatchObject([{ status: 200 }]);
  });

  test("tells on a connection for responses no more than it tells of each alone", async () => {
    const before = await lookAtAll(belongings);
    const others = namings(posts("/v1/responses"), absent(belongings));
    const crossed: unknown[] = [];
    for (const [at, naming] of namings(posts("/v1/responses"), belongings).entries()) {
      const body = bodyOf(naming);
      const answers: Answers = [
        await respondOnSocket(bob.key, body),
        await respondOnSocket(bob.key, bodyOf(others[at] as Naming)),
      ];
      for (const why of told(JSON.stringify(body), answers, belongings))
        crossed.push({ body, why, answers });
      expect(answers[0].status).toBeGreaterThanOrEqual(400);
    }
    expect(crossed).toEqual([]);
    expect(await lookAtAll(belongings)).toEqual(before);
    const own = {
      model: "support-tiny",
      input: "hello",
      previous_response_id: belongings.response,
    };
    // A database that is slow for a moment is told as one that is away.
    await eventually("an answer to its owner", async () =>
      (await respondOnSocket(alice.key, own)).status === 200 ? true : undefined,
    );
  });

  test("opens no realtime session with what is the other's, and names nothing of it to a provider", async () => {
    const gone = absent(belongings);
    const crossed: unknown[] = [];
    const compare = (what: string, answers: Answers) => {
      for (const why of told(what, answers, belongings)) crossed.push({ what, why, answers });
    };
    // What else an event names is of the provider's own session.
    const events = ({ model }: Belongings) => [
      { type: "session.update", session: { audio: { input: { transcription: { model } } } } },
      { type: "session.update", session: { input_audio_transcription: { model } } },
      { type: "session.update", session: { model } },
      { type: "response.create", response: { model } },
    ];
    const [theirs = [], nobodys = []] = await Promise.all(
      [belongings, gone].map(async (own) => [
        await refusedSession(bob.key, own.model),
        ...(await askInSession(bob.key, "talker", events(own))),
      ]),
    );
    expect(theirs.map(({ status }) => status)).toEqual([404, 404, 404, 400, 400]);
    for (const [at, answer] of theirs.entries())
      compare(`${belongings.model} ${at}`, [answer, nobodys[at] as Answer]);
    expect(crossed).toEqual([]);
    expect(JSON.stringify([provider.asked, provider.events])).not.toContain("secret-tone");
    // Its owner is told that it is no model of sessions, and not that it is none.
    expect((await refusedSession(alice.key, belongings.model)).status).toBe(400);
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
  const others = namings(operation, absent(own));
  const found: unknown[] = [];
  for (const [at, naming] of namings(operation, own).entries()) {
    const elsewhere = others[at] as Naming;
    const answers: Answers = [
      await send(bob.key, operation, naming),
      await send(bob.key, operation, elsewhere),
    ];
    const says = JSON.stringify([naming.path, naming.query, naming.body]);
    const reasons = told(says, answers, own);
    const wanted = operation.access === "admin" ? 403 : 404;
    if (operation.path.includes("{") && answers[0].status !== wanted)
      reasons.push(`it is no ${wanted}`);
    for (const why of reasons) found.push({ operation: operation.id, says, why, answers });
  }
  return found;
}

/** Of what is Alice's, and of what is nowhere. */
type Answers = [theirs: Answer, nobodys: Answer];

/** Why an answer tells the other more than they may know. @param says all that was asked for */
function told(says: string, [theirs, nobodys]: Answers, own: Belongings): string[] {
  const gone = absent(own);
  const theirOwn = Object.entries(own).filter(([kind]) => !isEverybodys.has(kind));
  const named = theirOwn.filter(
    ([, id]) => says.includes(id) || says.includes(encodeURIComponent(id)),
  );
  const kinds = named.map(([kind]) => kind as Kind);
  const isOne = masked(theirs, own, kinds) === masked(nobodys, gone, kinds);
  const more = theirOwn.filter(
    ([kind, id]) =>
      theirs.status < 400 && theirs.text.includes(id) && !kinds.includes(kind as Kind),
  );
  return [
    ...(kinds.length > 0 && !isOne ? ["it is another answer"] : []),
    ...more.map(([kind]) => `it has the ${kind}`),
  ];
}

function posts(path: string): Operation {
  const found = operations.find((it) => it.method === "post" && it.path === path);
  if (!found) throw new Error(`nothing is posted to ${path}`);
  return found;
}

function bodyOf({ body }: Naming): object {
  return body ?? {};
}

/** @returns what became of each line */
async function runBatch(key: string, endpoint: string, bodies: object[]): Promise<Answer[]> {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: key, maxRetries: 0 });
  const lines = bodies.map((body, at) =>
    JSON.stringify({ custom_id: `${at}`, method: "POST", url: endpoint, body }),
  );
  const input = await client.files.create({
    purpose: "batch",
    file: new File([lines.join("\n")], "lines.jsonl"),
  });
  const { id } = await client.batches.create({
    ...{ input_file_id: input.id, endpoint: endpoint as "/v1/responses" },
    completion_window: "24h",
  });
  const ended = await eventually("the batch", async () => {
    const batch = await client.batches.retrieve(id);
    if (batch.status === "failed") throw new Error(JSON.stringify(batch.errors));
    return batch.status === "completed" ? batch : undefined;
  });
  const answers: Answer[] = [];
  for (const file of [ended.output_file_id, ended.error_file_id]) {
    const content = file ? await (await client.files.content(file)).text() : "";
    for (const line of content.split("\n").filter((it) => it !== "")) {
      const { custom_id: at, response } = JSON.parse(line);
      const text = JSON.stringify(response.body);
      answers[Number(at)] = { status: response.status_code, headers: "", text };
    }
  }
  return answers;
}

type SocketEvent = { type: string; status?: number; error?: { code: string } };

function openSocket(key: string, path: string): WebSocket {
  const headers = { authorization: `Bearer ${key}` };
  return new WebSocket(server.url.replace("http", "ws") + path, { headers });
}

async function respondOnSocket(key: string, body: object): Promise<Answer> {
  const socket = openSocket(key, "/v1/responses");
  await once(socket, "open");
  const events: SocketEvent[] = [];
  const ended = new Promise<void>((resolve) => {
    socket.on("message", (data) => {
      events.push(JSON.parse(String(data)));
      if (/^(?:error|response\.(?:completed|failed))$/.test(events.at(-1)?.type ?? "")) resolve();
    });
  });
  socket.send(JSON.stringify({ type: "response.create", ...body }));
  await ended;
  socket.terminate();
  return { status: events.at(-1)?.status ?? 200, headers: "", text: JSON.stringify(events) };
}

async function refusedSession(key: string, model: string): Promise<Answer> {
  const socket = openSocket(key, `/v1/realtime?model=${encodeURIComponent(model)}`);
  socket.on("error", () => {});
  const [, response] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
  return { status: response.statusCode ?? 0, headers: "", text: await textOf(response) };
}

/** @returns the refusal of each event */
async function askInSession(key: string, model: string, events: object[]): Promise<Answer[]> {
  const socket = openSocket(key, `/v1/realtime?model=${model}`);
  const refusals: Answer[] = [];
  const done = new Promise<void>((resolve) => {
    socket.on("message", (data) => {
      const { type, error } = JSON.parse(String(data)) as SocketEvent;
      if (type !== "error") return;
      const status = errorTable[error?.code as ErrorCode].status;
      refusals.push({ status, headers: "", text: JSON.stringify(error) });
      if (refusals.length === events.length) resolve();
    });
  });
  await once(socket, "open");
  for (const event of events) socket.send(JSON.stringify(event));
  await done;
  socket.terminate();
  return refusals;
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
