import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createdKey, keyInfo } from "../sdk/protocol/admin.ts";
import { project, snapshot as snapshotSchema } from "../sdk/protocol/catalog.ts";
import { errorBody } from "../sdk/protocol/errors.ts";
import { inProcessOrigin } from "../sdk/protocol/http.ts";
import { newId } from "../sdk/protocol/ids.ts";
import { contentLogHeader, vouchingHeader } from "../sdk/protocol/vouched.ts";
import { buildAdapter } from "../test/support/adapter.ts";
import {
  openTestRegistry,
  pushForm,
  type TestRegistry,
  tinyModel,
} from "../test/support/registry.ts";
import { hashKey } from "./keys.ts";

let registry: TestRegistry;
/** Two tenants: the first project, and another one with its own key. */
let a: { projectId: string; key: string };
let b: { projectId: string; key: string };

beforeAll(async () => {
  registry = await openTestRegistry();
  a = { projectId: registry.projectId, key: registry.apiKey };
  const other = await admin("POST", "/api/projects", { name: "other" });
  const key = await admin("POST", "/api/keys", {
    name: "other's",
    projectId: other.body.id,
  });
  b = { projectId: other.body.id, key: key.body.key };
  expect((await admin("PUT", "/api/models/tiny", tinyModel)).status).toBe(200);
});
afterAll(() => registry.close());

const admin = (method: string, path: string, body?: unknown) =>
  registry.call(registry.adminKey, method, path, body);
const operator = (method: string, path: string) =>
  registry.call(registry.operatorKey, method, path);

describe("who may ask", () => {
  test("a request without a key, with a wrong one, or with a wrong scheme is told so", async () => {
    const none = await registry.app.fetch(new Request("http://x/api/whoami"));
    const { error } = errorBody.parse(await none.json());
    expect([none.status, error.code]).toEqual([401, "missing_api_key"]);
    const wrong = await registry.call("sk-sy-wrong", "GET", "/api/whoami");
    expect([wrong.status, wrong.body.error.code]).toEqual([401, "invalid_api_key"]);
  });

  test("whoami tells role and project of each kind of key", async () => {
    expect((await registry.call(a.key, "GET", "/api/whoami")).body).toEqual({
      keyId: expect.stringMatching(/^key_/),
      role: "project",
      projectId: a.projectId,
    });
    expect((await admin("GET", "/api/whoami")).body.role).toBe("admin");
    expect((await operator("GET", "/api/whoami")).body).toEqual({
      keyId: "operator",
      role: "operator",
    });
  });

  test.each([
    ["POST", "/api/projects"],
    ["PATCH", "/api/projects/proj_1"],
    ["GET", "/api/keys"],
    ["POST", "/api/keys"],
    ["DELETE", "/api/keys/key_1"],
    ["POST", "/api/keys/key_1/rotate"],
    ["PUT", "/api/models/m"],
    ["PUT", "/api/routes/r"],
    ["POST", "/api/prices"],
    ["GET", "/api/snapshot"],
    ["GET", `/api/artifacts/${"0".repeat(64)}`],
    ["GET", `/api/adapter-versions/${"0".repeat(64)}`],
  ])("%s %s is not for a project's key", async (method, path) => {
    const answer = await registry.call(a.key, method, path);
    expect([answer.status, answer.body.error.code]).toEqual([403, "permission_denied"]);
  });

  test("a revoked key, an expired one and a key of an archived project are refused", async () => {
    const body = { name: "short", projectId: b.projectId, expiresInSeconds: 60 };
    const { id, key } = (await admin("POST", "/api/keys", body)).body;
    expect((await registry.call(key, "GET", "/api/whoami")).status).toBe(200);
    registry.clock.nowMs += 60_000;
    expect((await registry.call(key, "GET", "/api/whoami")).status).toBe(401);

    const lasting = (await admin("POST", "/api/keys", { ...body, expiresInSeconds: undefined }))
      .body;
    const revoked = await admin("DELETE", `/api/keys/${lasting.id}`);
    expect(keyInfo.parse(revoked.body).revokedAt).toBeDefined();
    expect((await registry.call(lasting.key, "GET", "/api/whoami")).status).toBe(401);
    expect((await admin("DELETE", `/api/keys/${lasting.id}`)).body).toEqual(revoked.body);
    const unknown = id.slice(0, -1) + (id.endsWith("x") ? "y" : "x");
    expect((await admin("DELETE", `/api/keys/${unknown}`)).status).toBe(404);
  });
});

describe("projects and keys", () => {
  test("a rotated key is the same key: its old text goes on for a while, and never comes back", async () => {
    const scopes = { models: ["m"], addresses: ["10.0.0.0/8"] };
    const body = { name: "rotating", projectId: b.projectId, scopes };
    const { key: first, ...made } = (await admin("POST", "/api/keys", body)).body;
    const path = `/api/keys/${made.id}/rotate`;
    const status = async (key: string) => (await registry.call(key, "GET", "/api/whoami")).status;

    const rotated = await admin("POST", path, { overlapSeconds: 60 });
    const { key: second, previousUntil, ...same } = createdKey.parse(rotated.body);
    expect(same).toEqual({ ...made, redacted: `sk-sy-***${second.slice(-4)}` });
    expect(Date.parse(previousUntil ?? "")).toBe(registry.clock.nowMs + 60_000);
    expect([await status(first), await status(second)]).toEqual([200, 200]);
    registry.clock.nowMs += 60_000;
    expect([await status(first), await status(second)]).toEqual([401, 200]);

    const { key: third } = (await admin("POST", path, { overlapSeconds: 0 })).body;
    expect([await status(second), await status(third)]).toEqual([401, 200]);
    const text = JSON.stringify((await admin("GET", "/api/keys")).body);
    for (const secret of [first, second, third].flatMap((key) => [key, hashKey(key)])) {
      expect(text).not.toContain(secret);
    }
    await registry.bootstrap({ apiKey: first });
    expect(await status(first)).toBe(401);

    await admin("DELETE", `/api/keys/${made.id}`);
    const ended = await admin("POST", path, {});
    expect([ended.status, ended.body.error.message]).toEqual([400, expect.stringMatching(/ended/)]);
  });

  test("keys are told apart by owner, beginning and end; of a text that an operator made up nothing is told", async () => {
    const { id } = (await admin("POST", "/api/projects", { name: "told-apart" })).body;
    const { key } = (await admin("POST", "/api/keys", { name: "made", projectId: id })).body;
    await admin("POST", `/v1/organization/projects/${id}/service_accounts`, { name: "crawler" });
    const listed = async (project: string) =>
      keyInfo.array().parse((await admin("GET", `/api/keys?projectId=${project}`)).body.data);
    const keys = await listed(id);
    expect(keys).toHaveLength(2);
    const made = keys.find(({ name }) => name === "made");
    expect(made).toMatchObject({ redacted: `sk-sy-***${key.slice(-4)}` });
    expect(made).not.toHaveProperty("ownerName");
    expect(keys.find(({ ownerId }) => ownerId !== undefined)).toMatchObject({
      ownerName: "crawler",
    });

    await registry.bootstrap({ apiKey: "a-key-that-was-made-up" });
    const first = (await listed(registry.projectId)).filter(({ name }) => name === "first");
    expect(first).toHaveLength(2);
    expect(first.flatMap(({ redacted }) => redacted ?? [])).toEqual([
      `sk-sy-***${registry.apiKey.slice(-4)}`,
    ]);
  });

  test("a project is made once, changed where asked, and its name is its own", async () => {
    const made = await admin("POST", "/api/projects", { name: "billing", team: "finance" });
    expect(made.status).toBe(201);
    expect(project.parse(made.body)).toMatchObject({
      name: "billing",
      team: "finance",
      limits: {},
    });
    expect((await admin("POST", "/api/projects", { name: "billing" })).body.error.code).toBe(
      "already_exists",
    );
    const path = `/api/projects/${made.body.id}`;
    const budget = { limitUsd: "5", period: "month" };
    expect((await admin("PATCH", path, { budget })).body).toEqual({ ...made.body, budget });
    // The database has its own order of keys.
    const again = { budget: { period: "month", limitUsd: "5" } };
    for (const same of [{ budget }, again]) await admin("PATCH", path, same);
    expect((await admin("PATCH", path, { budget: null })).body).toEqual(made.body);
    const events = await admin("GET", `/api/events?subject=${made.body.id}`);
    expect(events.body.data.map((event: { type: string }) => event.type)).toEqual([
      "project.created",
      "project.updated",
      "project.updated",
    ]);
    await admin("PATCH", path, { team: "finance" });
    expect((await admin("GET", `/api/events?subject=${made.body.id}`)).body.data).toHaveLength(3);
  });

  test("a project lets contents be kept only through a gateway that can seal them", async () => {
    const path = `/api/projects/${b.projectId}`;
    const patch = async (headers: Record<string, string>, changes: object) => {
      const request = new Request(inProcessOrigin + path, {
        method: "PATCH",
        headers: { authorization: `Bearer ${registry.adminKey}`, ...headers },
        body: JSON.stringify(changes),
      });
      const response = await registry.app.fetch(request);
      const body: Awaited<ReturnType<typeof registry.call>>["body"] = await response.json();
      return { status: response.status, body };
    };
    const vouched = { [vouchingHeader]: registry.operatorKey };
    const consent = { contentLog: { retentionDays: 7, parts: ["prompt"] } };
    for (const headers of [
      {},
      { [contentLogHeader]: "sealed" },
      { [contentLogHeader]: "sealed", [vouchingHeader]: "not the operator's key" },
      vouched,
    ]) {
      expect(await patch(headers, consent)).toMatchObject({
        status: 400,
        body: { error: { param: "contentLog" } },
      });
    }
    const given = await patch({ ...vouched, [contentLogHeader]: "sealed" }, consent);
    expect(given.body.contentLog).toEqual({
      share: 1,
      retentionDays: 7,
      parts: ["prompt"],
      redact: ["email", "phone", "iban", "card", "ip", "national_id"],
    });
    const wrong = { contentLog: { retentionDays: 0 } };
    expect((await patch({ ...vouched, [contentLogHeader]: "sealed" }, wrong)).status).toBe(400);
    expect((await patch({}, { contentLog: null })).body.contentLog).toBeUndefined();
    const events = await admin("GET", `/api/events?subject=${b.projectId}`);
    const changes = events.body.data.flatMap(({ detail }: { detail: { contentLog?: unknown } }) =>
      "contentLog" in detail ? [detail.contentLog] : [],
    );
    expect(changes).toEqual([given.body.contentLog, null]);
  });

  test("what is done with contents is noted by gateways alone, and makes no new policy", async () => {
    const snapshot = async () =>
      (await registry.call(registry.operatorKey, "GET", "/api/snapshot")).body.version;
    const before = await snapshot();
    const event = {
      type: "content.read",
      subject: "req_1",
      projectId: b.projectId,
      actor: "user_1",
    };
    expect((await admin("POST", "/api/events", event)).status).toBe(403);
    expect((await registry.call(b.key, "POST", "/api/events", event)).status).toBe(403);
    const note = (body: object) => registry.call(registry.operatorKey, "POST", "/api/events", body);
    expect((await note({ ...event, type: "key.revoked" })).status).toBe(400);
    expect((await note(event)).status).toBe(201);
    expect(await snapshot()).toBe(before);
    const noted = await admin("GET", "/api/events?subject=req_1");
    expect(noted.body.data).toMatchObject([
      { type: "content.read", actor: "user_1", projectId: b.projectId },
    ]);
  });

  test("a key is shown once and stored as a hash only", async () => {
    const answer = await admin("POST", "/api/keys", { name: "ci", projectId: a.projectId });
    const { key, ...info } = createdKey.parse(answer.body);
    expect(key).toMatch(/^sk-sy-[0-9A-Za-z]{38}$/);
    const { data } = (await admin("GET", `/api/keys?projectId=${a.projectId}`)).body;
    expect(data).toContainEqual(info);
    const rows = await registry.database.sql`select api_keys::text as row from registry.api_keys`;
    const all = JSON.stringify([rows, (await admin("GET", "/api/events?limit=100")).body]);
    expect(all).not.toContain(key);
    expect(all).toContain(createHash("sha256").update(key).digest("hex"));
  });

  test("an admin's key has no project, a project's key must have one", async () => {
    const both = { name: "x", role: "admin", projectId: a.projectId };
    expect((await admin("POST", "/api/keys", both)).status).toBe(400);
    expect((await admin("POST", "/api/keys", { name: "x" })).body.error).toMatchObject({
      code: "missing_required_parameter",
      param: "projectId",
    });
    const foreign = { name: "x", projectId: newId("proj") };
    expect((await admin("POST", "/api/keys", foreign)).status).toBe(404);
  });

  test("a list comes in pages that join without gap or repetition", async () => {
    const all = (await admin("GET", "/api/keys?limit=100")).body;
    expect(all.has_more).toBe(false);
    const joined = [];
    let after = "";
    for (let more = true; more; ) {
      const page = (await admin("GET", `/api/keys?limit=2${after}`)).body;
      joined.push(...page.data);
      more = page.has_more;
      after = `&after=${page.last_id}`;
    }
    expect(joined).toEqual(all.data);
    expect((await admin("GET", "/api/keys?limit=101")).status).toBe(400);
  });
});

describe("models, routes and prices", () => {
  test("declaring the same again is no event; declaring something else is one", async () => {
    const remote = { upstream: "openai", upstreamModel: "gpt-x", ownedBy: "openai" };
    const path = `/api/models/${encodeURIComponent("org/gpt-x")}`;
    const first = await admin("PUT", path, remote);
    expect(first.body).toMatchObject({ id: "org/gpt-x", ...remote });
    const before = await newestEvent();
    expect((await admin("PUT", path, remote)).body).toEqual(first.body);
    expect(await newestEvent()).toBe(before);
    const changed = await admin("PUT", path, { ...remote, contextLength: 10 });
    expect(changed.body).toEqual({ ...first.body, contextLength: 10 });
    expect(await newestEvent()).toBe(before + 1);
    expect((await registry.call(a.key, "GET", path)).body).toEqual(changed.body);
    expect((await admin("PUT", "/api/models/a%3Ab", remote)).body.error.param).toBe("id");
  });

  test("a project sees everybody's routes and its own, and its own wins by name", async () => {
    const policy = { defaultModel: "tiny", fallbacks: [], tasks: [] };
    const everybodys = await admin("PUT", "/api/routes/smart", policy);
    const own = await admin("PUT", "/api/routes/smart", {
      ...policy,
      defaultModel: "tiny:x",
      projectId: b.projectId,
    });
    expect(everybodys.status).toBe(200);
    const seenBy = async (key: string) =>
      (await registry.call(key, "GET", "/api/routes")).body.data
        .map((it: { id: string }) => it.id)
        .sort();
    expect(await seenBy(a.key)).toEqual([everybodys.body.id]);
    expect(await seenBy(b.key)).toEqual([everybodys.body.id, own.body.id].sort());
    expect((await registry.call(b.key, "GET", "/api/routes/smart")).body).toEqual(own.body);
    expect((await registry.call(a.key, "GET", "/api/routes/smart")).body).toEqual(everybodys.body);
    expect((await admin("PUT", "/api/routes/tiny", policy)).body.error.code).toBe("already_exists");
  });

  test("whom a route asks after which failure is kept, and gone when it is declared without", async () => {
    const policy = { defaultModel: "tiny", fallbacks: [], tasks: [] };
    const fallbackOn = { content_filter: ["tiny"], insufficient_quota: [] };
    const path = "/api/routes/careful";
    expect((await admin("PUT", path, { ...policy, fallbackOn })).body).toMatchObject({
      fallbackOn,
    });
    const before = await newestEvent();
    await admin("PUT", path, { ...policy, fallbackOn });
    expect(await newestEvent()).toBe(before);
    await admin("PUT", path, policy);
    expect((await admin("GET", path)).body).not.toHaveProperty("fallbackOn");
    const wrong = await admin("PUT", path, { ...policy, fallbackOn: { status_500: [] } });
    expect([wrong.status, wrong.body.error.param]).toEqual([400, "fallbackOn.status_500"]);
  });

  test("prices are exact decimals and are only ever added", async () => {
    const price = { model: "tiny", meter: "input", usdPerToken: "0.000000150000", source: "test" };
    const added = await admin("POST", "/api/prices", { prices: [price] });
    expect(added.status).toBe(201);
    expect(added.body.data[0]).toMatchObject({ usdPerToken: "0.00000015" });
    await admin("POST", "/api/prices", { prices: [{ ...price, usdPerToken: "0.1" }] });
    const { data } = (await registry.call(a.key, "GET", "/api/prices?model=tiny")).body;
    expect(data).toHaveLength(2);
    expect(data[0]).not.toHaveProperty("tier");
    const ofBatches = await admin("POST", "/api/prices", { prices: [{ ...price, tier: "batch" }] });
    expect(ofBatches.body.data[0]).toMatchObject({ tier: "batch", usdPerToken: "0.00000015" });
    const below = await admin("POST", "/api/prices", { prices: [{ ...price, usdPerToken: "-1" }] });
    expect(below.body.error.param).toBe("prices[0].usdPerToken");
  });
});

describe("pushing adapters", () => {
  test("the same content is one version; other content is the next", async () => {
    const manifest = { base: "tiny", name: "intent", lineage: { dataset: "d1" } };
    const first = await registry.push(a.key, manifest);
    expect(first.status).toBe(201);
    expect(first.body.version).toMatchObject({ version: 1, rank: 2, lineage: { dataset: "d1" } });
    const before = await newestEvent();
    const again = await registry.push(a.key, manifest);
    expect([again.status, again.body]).toEqual([200, first.body]);
    expect(await newestEvent()).toBe(before);
    const next = await registry.push(a.key, manifest, buildAdapter({ seed: 2 }));
    expect([next.status, next.body.version.version]).toEqual([201, 2]);
    expect(next.body.adapter.versions).toHaveLength(2);
  });

  test("two pushes of the same content at once are one version", async () => {
    const manifest = { base: "tiny", name: "twice" };
    const both = await Promise.all([
      registry.push(a.key, manifest),
      registry.push(a.key, manifest),
    ]);
    expect(both.map((answer) => answer.status).sort()).toEqual([200, 201]);
    expect(both[0]?.body.version).toEqual(both[1]?.body.version);
  });

  test("an operator finds a version and its files by digest, and the digest proves them", async () => {
    const files = buildAdapter({ seed: 3 });
    const { version } = (await registry.push(a.key, { base: "tiny", name: "found" }, files)).body;
    const found = await operator("GET", `/api/adapter-versions/${version.digest}?base=tiny`);
    expect(found.body).toEqual({ ...version, base: "tiny" });
    const weights = await operator("GET", `/api/artifacts/${version.weightsSha256}`);
    expect(weights.body.equals(Buffer.from(files.weights))).toBe(true);
    const hash = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex");
    expect(version.digest).toBe(
      hash(`switchyard-adapter-v1\n${hash(files.config)}\n${hash(files.weights)}\n`),
    );
    const otherBase = await operator("GET", `/api/adapter-versions/${version.digest}?base=other`);
    expect(otherBase.status).toBe(404);
  });

  test.each([
    [
      "a NaN",
      () => damaged((view) => view.setFloat32(view.byteLength - 4, Number.NaN, true)),
      "invalid_adapter",
    ],
    [
      "a truncated file",
      () => ({ ...buildAdapter(), weights: buildAdapter().weights.slice(0, -4) }),
      "invalid_adapter",
    ],
    [
      "a pickle",
      () => ({
        ...buildAdapter(),
        weights: Uint8Array.from(Buffer.from("80025d712e00000000", "hex")),
      }),
      "invalid_adapter",
    ],
    [
      "DoRA without its magnitudes",
      () => buildAdapter({ config: { use_dora: true } }),
      "invalid_adapter",
    ],
    [
      "another base",
      () => buildAdapter({ config: { base_model_name_or_path: "x/y" } }),
      "adapter_base_mismatch",
    ],
    ["too large a rank", () => buildAdapter({ rank: 257 }), "adapter_rank_too_large"],
  ])("%s leaves nothing behind: no row, no file, no event", async (_, build, code) => {
    const before = [await newestEvent(), registry.storedFiles()];
    const answer = await registry.push(a.key, { base: "tiny", name: "hostile" }, build());
    expect([answer.status, answer.body.error.code]).toEqual([400, code]);
    expect([await newestEvent(), registry.storedFiles()]).toEqual(before);
    const { data } = (await registry.call(a.key, "GET", "/api/adapters")).body;
    expect(data.map((it: { name: string }) => it.name)).not.toContain("hostile");
  });

  test.each([
    ["no base of that name", { base: "nope", name: "x" }, 404, "model_not_found"],
    ["a base that takes no adapters", { base: "remote", name: "x" }, 400, "adapter_base_mismatch"],
    ["a name that is a path", { base: "tiny", name: "../x" }, 400, "invalid_value"],
    ["an unknown field", { base: "tiny", name: "x", nope: 1 }, 400, "invalid_value"],
    ["sharing by a project", { base: "tiny", name: "x", shared: true }, 403, "permission_denied"],
    [
      "a champion that nothing measured",
      { base: "tiny", name: "x", alias: "champion" },
      400,
      "no_evidence",
    ],
  ])("%s is refused and stores nothing", async (_, manifest, status, code) => {
    const remote = { upstream: "openai", upstreamModel: "gpt", ownedBy: "openai" };
    await admin("PUT", "/api/models/remote", remote);
    const before = [await newestEvent(), registry.storedFiles()];
    const answer = await registry.push(a.key, manifest, buildAdapter({ seed: 99 }));
    expect([answer.status, answer.body.error.code]).toEqual([status, code]);
    expect([await newestEvent(), registry.storedFiles()]).toEqual(before);
  });

  test("the sender may vouch for a base under another name", async () => {
    const files = buildAdapter({ config: { base_model_name_or_path: "my/copy" } });
    const manifest = { base: "tiny", name: "vouched", acceptBaseName: true };
    expect((await registry.push(a.key, manifest, files)).status).toBe(201);
  });

  test("a form with another part, such as a pickle beside the weights, is refused", async () => {
    const form = pushForm({ base: "tiny", name: "x" }, buildAdapter());
    form.set("adapter_model.bin", new Blob(["x"]), "adapter_model.bin");
    const answer = await registry.app.fetch(
      new Request("http://x/api/adapters", {
        method: "POST",
        body: form,
        headers: { authorization: `Bearer ${a.key}` },
      }),
    );
    expect(errorBody.parse(await answer.json()).error.message).toContain("adapter_model.bin");
  });

  test("a base with adapters cannot be swapped for other weights", async () => {
    const base = { ...tinyModel.base, digest: "0".repeat(64) };
    const answer = await admin("PUT", "/api/models/tiny", { ...tinyModel, base });
    expect(answer.body.error.code).toBe("adapter_base_mismatch");
    expect((await admin("PUT", "/api/models/tiny", tinyModel)).status).toBe(200);
  });
});

describe("aliases", () => {
  const ids = new Map<string, { id: string; digests: string[] }>();
  const pushVersions = async (name: string, count: number) => {
    const digests: string[] = [];
    let id = "";
    for (let seed = 1; seed <= count; seed++) {
      const { body } = await registry.push(a.key, { base: "tiny", name }, buildAdapter({ seed }));
      id = body.adapter.id;
      digests.push(body.version.digest);
    }
    ids.set(name, { id, digests });
    return `/api/adapters/${id}`;
  };
  const move = (path: string, alias: string, body: object) =>
    registry.call(a.key, "PUT", `${path}/aliases/${alias}`, body);

  test("of two moves that expect the same version exactly one wins", async () => {
    const path = await pushVersions("race", 3);
    expect((await move(path, "candidate", { version: 1, expect: null })).status).toBe(200);
    const moves = await Promise.all([
      move(path, "candidate", { version: 2, expect: 1 }),
      move(path, "candidate", { version: 3, expect: 1 }),
    ]);
    const [won, lost] = moves[0]?.status === 200 ? moves : moves.toReversed();
    expect([won?.status, lost?.status]).toEqual([200, 409]);
    expect(lost?.body.error).toMatchObject({
      code: "alias_moved",
      details: { current: won?.body.aliases.candidate },
    });
  });

  test("a move to a version that is not there, or of a wrong expectation, changes nothing", async () => {
    const path = await pushVersions("wrong", 1);
    expect((await move(path, "candidate", { version: 2, expect: null })).status).toBe(404);
    expect((await move(path, "candidate", { version: 1, expect: 1 })).status).toBe(409);
    expect((await move(path, "Not an alias", { version: 1, expect: null })).status).toBe(400);
    expect((await registry.call(a.key, "GET", path)).body.aliases).toEqual({});
  });

  test("champion needs evidence of this very content, from the adapter's own project, or force", async () => {
    const path = await pushVersions("proven", 3);
    const { digests } = ids.get("proven") ?? { digests: [] };
    const first = { version: 1, expect: null };
    expect((await move(path, "champion", first)).body.error.code).toBe("no_evidence");
    await measure(b, digests[0]);
    await measure(a, digests[1]);
    expect((await move(path, "champion", first)).body.error.code).toBe("no_evidence");
    await measure(a, digests[0]);
    expect((await move(path, "champion", first)).body.aliases).toEqual({ champion: 1 });
    const forced = { version: 3, expect: 1, force: true, reason: "demo" };
    expect((await move(path, "champion", forced)).body.aliases).toEqual({ champion: 3 });
  });

  test("rolling back goes step by step, and history tells who was champion when", async () => {
    const path = await pushVersions("history", 3);
    const at: string[] = [];
    const day = 86_400_000;
    for (const [version, expect_] of [
      [1, null],
      [2, 1],
      [3, 2],
    ] as const) {
      registry.clock.nowMs += day;
      at.push(new Date(registry.clock.nowMs).toISOString());
      await move(path, "champion", { version, expect: expect_, force: true });
    }
    const back = (body?: object) =>
      registry.call(a.key, "POST", `${path}/aliases/champion/rollback`, body);
    registry.clock.nowMs += day;
    expect((await back({ expect: 1 })).body.error.details).toEqual({ current: 3 });
    expect((await back({ expect: 3, reason: "worse" })).body.aliases).toEqual({ champion: 2 });
    expect((await back()).body.aliases).toEqual({ champion: 1 });
    expect((await back()).status).toBe(400);
    await move(path, "champion", { version: 3, expect: 1, force: true });
    expect((await back()).body.aliases).toEqual({ champion: 1 });

    const whenAsked = async (moment: string) =>
      (await registry.call(a.key, "GET", `${path}/history?at=${moment}`)).body.aliases;
    expect(await whenAsked("2020-01-01T00:00:00Z")).toEqual({});
    for (const [index, moment] of at.entries()) {
      expect((await whenAsked(moment)).champion).toMatchObject({
        version: index + 1,
        digest: ids.get("history")?.digests[index],
        since: moment,
        actor: expect.stringMatching(/^key_/),
      });
    }
    const history = (await registry.call(a.key, "GET", `${path}/history?alias=champion`)).body;
    expect(history.data.map((event: { type: string }) => event.type)).toEqual([
      ...Array(3).fill("alias.moved"),
      "alias.rolled_back",
      "alias.rolled_back",
      "alias.moved",
      "alias.rolled_back",
    ]);
    expect(history.data[3].detail).toMatchObject({ from: 3, to: 2, reason: "worse" });
  });

  test("an alias may bear the name of something that every JavaScript object has", async () => {
    const path = await pushVersions("inherited", 1);
    const moved = await move(path, "constructor", { version: 1, expect: null });
    expect(moved.body.aliases).toEqual({ constructor: 1 });
  });

  test("pushing with an alias points it at the new version unless it points elsewhere", async () => {
    const manifest = { base: "tiny", name: "pointed", alias: "candidate" };
    const first = await registry.push(a.key, manifest);
    expect(first.body.adapter.aliases).toEqual({ candidate: 1 });
    const second = await registry.push(a.key, manifest, buildAdapter({ seed: 2 }));
    expect(second.body.adapter.aliases).toEqual({ candidate: 1 });
  });
});

describe("two tenants", () => {
  test("a route for all names an adapter only to those who may use it", async () => {
    await registry.push(a.key, { base: "tiny", name: "private" });
    const declared = await admin("PUT", "/api/routes/listed", {
      defaultModel: "tiny:private",
      fallbacks: ["tiny:private@1", "tiny"],
      fallbackOn: { content_filter: ["tiny:private", "tiny"], rate_limit_exceeded: [] },
      tasks: [
        { task: "mixed", rules: [], candidates: ["tiny:private", "tiny"], qualityFloor: 0.5 },
        { task: "theirs", rules: [], candidates: ["tiny:private"], qualityFloor: 0.5 },
      ],
    });
    expect(declared.status).toBe(200);
    const read = async (key: string) => [
      (await registry.call(key, "GET", "/api/routes/listed")).body,
      (await registry.call(key, "GET", "/api/routes")).body.data.find(
        ({ name }: { name: string }) => name === "listed",
      ),
    ];
    expect(await read(a.key)).toEqual([declared.body, declared.body]);
    const seen = {
      ...declared.body,
      defaultModel: "tiny",
      fallbacks: ["tiny"],
      fallbackOn: { content_filter: ["tiny"], rate_limit_exceeded: [] },
      tasks: [{ ...declared.body.tasks[0], candidates: ["tiny"] }],
    };
    expect(await read(b.key)).toEqual([seen, seen]);
  });

  test("neither sees, moves, pushes to or measures for the other, and all of it is 404", async () => {
    const mine = (await registry.push(a.key, { base: "tiny", name: "secret", alias: "candidate" }))
      .body;
    const path = `/api/adapters/${mine.adapter.id}`;
    const tries = await Promise.all([
      registry.call(b.key, "GET", path),
      registry.call(b.key, "GET", `${path}/history`),
      registry.call(b.key, "PUT", `${path}/aliases/candidate`, { version: 1, expect: 1 }),
      registry.call(b.key, "POST", `${path}/aliases/candidate/rollback`, {}),
      registry.push(b.key, { base: "tiny", name: "secret", projectId: a.projectId }),
      registry.call(b.key, "GET", `/api/adapters?projectId=${a.projectId}`),
      registry.call(b.key, "GET", `/api/projects/${a.projectId}`),
      registry.call(b.key, "GET", `/api/events?projectId=${a.projectId}`),
      registry.call(b.key, "GET", `/api/measurements?projectId=${a.projectId}`),
      registry.call(b.key, "GET", `/api/routes/smart?projectId=${a.projectId}`),
      registry.call(b.key, "POST", "/api/measurements", {
        measurements: [measurementOf(a.projectId, mine.version.digest)],
      }),
    ]);
    expect(tries.map((answer) => answer.status)).toEqual(Array(tries.length).fill(404));

    const lists = ["/api/adapters", "/api/projects", "/api/events?limit=100", "/api/measurements"];
    for (const list of lists) {
      const seen = JSON.stringify((await registry.call(b.key, "GET", list)).body);
      expect(seen).not.toContain(a.projectId);
    }
  });

  test("prices name the adapters of those who may see them", async () => {
    const manifest = { base: "tiny", projectId: a.projectId };
    for (const [name, shared] of [
      ["priced-secret", false],
      ["priced-common", true],
    ] as const) {
      expect((await registry.push(registry.adminKey, { ...manifest, name, shared })).status).toBe(
        201,
      );
      const price = { model: `tiny:${name}`, meter: "input", usdPerToken: "0.1", source: "test" };
      expect((await admin("POST", "/api/prices", { prices: [price] })).status).toBe(201);
    }
    const seenBy = async (key: string, query = "?limit=100") => {
      const { data } = (await registry.call(key, "GET", `/api/prices${query}`)).body;
      return new Set((data as { model: string }[]).map(({ model }) => model));
    };
    expect(await seenBy(b.key)).toEqual(new Set(["tiny", "tiny:priced-common"]));
    expect(await seenBy(b.key, "?model=tiny:priced-secret")).toEqual(new Set());
    for (const key of [a.key, registry.adminKey]) {
      expect(await seenBy(key)).toEqual(
        new Set(["tiny", "tiny:priced-common", "tiny:priced-secret"]),
      );
    }
  });

  test("the same name over the same base is each project's own adapter", async () => {
    const manifest = { base: "tiny", name: "same-name" };
    const first = (await registry.push(a.key, manifest)).body.adapter;
    const second = (await registry.push(b.key, manifest)).body.adapter;
    expect(second.id).not.toBe(first.id);
    expect(second.projectId).toBe(b.projectId);
  });

  test("a shared adapter is seen by all and changed by its own project and admins only", async () => {
    const manifest = { base: "tiny", name: "common", shared: true, projectId: a.projectId };
    expect(
      (await registry.push(registry.adminKey, { ...manifest, projectId: undefined })).body.error
        .param,
    ).toBe("manifest.projectId");
    const { adapter } = (await registry.push(registry.adminKey, manifest)).body;
    const path = `/api/adapters/${adapter.id}`;
    expect((await registry.call(b.key, "GET", path)).body).toEqual(adapter);
    const move = { version: 1, expect: null };
    expect((await registry.call(b.key, "PUT", `${path}/aliases/candidate`, move)).status).toBe(404);
    expect((await registry.call(a.key, "PUT", `${path}/aliases/candidate`, move)).status).toBe(200);
  });
});

describe("measurements", () => {
  test("a run that reports twice is one piece of evidence", async () => {
    const body = { measurements: [measurementOf(a.projectId, undefined)] };
    const first = await registry.call(a.key, "POST", "/api/measurements", body);
    const again = await registry.call(a.key, "POST", "/api/measurements", body);
    expect(first.status).toBe(201);
    expect(again.body.data).toEqual(first.body.data);
    expect(first.body.data[0]).toMatchObject({ ...body.measurements[0], meanCostUsd: "0.0001" });
  });
});

describe("snapshots", () => {
  test("hold everything, as the schema has it, at the newest event's version", async () => {
    const answer = await operator("GET", "/api/snapshot");
    const parsed = snapshotSchema.parse(answer.body);
    expect(parsed.version).toBe(await newestEvent());
    expect(parsed.models.map((it) => it.id)).toContain("tiny");
    expect(parsed.keys.every((it) => it.hash.length === 64)).toBe(true);
    expect(parsed.adapters.flatMap((it) => it.versions).length).toBeGreaterThan(5);
  });

  test("a gateway that has the newest waits, and is told 304 when nothing changes", async () => {
    const version = await newestEvent();
    const answer = await operator("GET", `/api/snapshot?after=${version}&waitMs=20`);
    expect(answer.status).toBe(304);
  });

  test("a change wakes those who wait, whichever process made it", async () => {
    const another = await registry.another();
    for (const change of [
      () => admin("POST", "/api/projects", { name: `woken-${newId("req")}` }),
      () =>
        another.applyDeclared({
          models: [
            { id: `from-another-${newId("req")}`, upstream: "u", upstreamModel: "m", ownedBy: "o" },
          ],
        }),
    ]) {
      const version = await newestEvent();
      const waiting = operator("GET", `/api/snapshot?after=${version}&waitMs=20000`);
      await change();
      expect((await waiting).body.version).toBe(version + 1);
    }
  });

  test("a gateway that is ahead of a restored database gets what the database has", async () => {
    const answer = await operator("GET", "/api/snapshot?after=999999&waitMs=20000");
    expect(answer.body.version).toBe(await newestEvent());
  });

  test("one that hangs up is not waited for", async () => {
    const stop = new AbortController();
    const version = await newestEvent();
    const waiting = registry.app.fetch(
      new Request(`http://x/api/snapshot?after=${version}&waitMs=30000`, {
        headers: { authorization: `Bearer ${registry.operatorKey}` },
        signal: stop.signal,
      }),
    );
    stop.abort();
    expect((await waiting).status).toBe(304);
  });

  test("changes made at once by several processes give a version each, in order", async () => {
    const another = await registry.another();
    const before = await newestEvent();
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        i % 2 === 0
          ? admin("POST", "/api/projects", { name: `parallel-${i}` })
          : another.applyDeclared({
              models: [{ id: `parallel-${i}`, upstream: "u", upstreamModel: "m", ownedBy: "o" }],
            }),
      ),
    );
    expect(outcomes.filter((it) => it && it.status !== 201).map((it) => it?.body)).toEqual([]);
    const { data } = (await admin("GET", `/api/events?after=${before}`)).body;
    expect(data).toHaveLength(10);
  });
});

async function newestEvent(): Promise<number> {
  const [row] = await registry.database.sql`select max(id)::int as id from registry.events`;
  return row?.id;
}

function damaged(change: (view: DataView) => void) {
  const files = buildAdapter();
  change(new DataView(files.weights.buffer));
  return files;
}

function measurementOf(projectId: string, adapterDigest: string | undefined) {
  return {
    runId: newId("run"),
    projectId,
    task: "intent",
    datasetDigest: "da7a".repeat(16),
    scorer: "exact",
    model: "tiny:intent@1",
    ...(adapterDigest && { adapterDigest }),
    n: 100,
    score: 0.9,
    lower: 0.82,
    upper: 0.95,
    meanCostUsd: "0.000100",
    meanInputTokens: 12.5,
    meanOutputTokens: 3,
    latencyP50Ms: 20,
    latencyP95Ms: 45.5,
    measuredAt: "2026-03-01T12:00:00.000Z",
  };
}

async function measure(tenant: { projectId: string; key: string }, digest: string | undefined) {
  const body = { measurements: [measurementOf(tenant.projectId, digest)] };
  expect((await registry.call(tenant.key, "POST", "/api/measurements", body)).status).toBe(201);
}
