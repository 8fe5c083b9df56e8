/** Two tenants of one installation: neither sees, names, uses or is billed for what is the other's. */
import { fileURLToPath } from "node:url";
import OpenAI, { NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, createTenant, eventually, pushAdapter, type Tenant } from "../support/api.ts";
import { type RunningServer, startServer } from "../support/server.ts";

const adapterFolder = fileURLToPath(
  new URL("../../deploy/demo-model/adapters/tone-formal", import.meta.url),
);

let server: RunningServer;
let alice: Tenant;
let bob: Tenant;
let adapterId: string;
beforeAll(async () => {
  server = await startServer();
  alice = await createTenant(server.url, server.adminKey, "alice", { team: "red" });
  bob = await createTenant(server.url, server.adminKey, "bob", { team: "blue" });
  const pushed = await pushAdapter(
    server.url,
    alice.key,
    { base: "support-tiny", name: "secret-tone", alias: "candidate" },
    adapterFolder,
  );
  expect(pushed.status).toBe(201);
  adapterId = (pushed.body as { adapter: { id: string } }).adapter.id;
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

function clientOf(tenant: Tenant): OpenAI {
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
}
