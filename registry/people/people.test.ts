/** What people may still do at the moment that it is done, and how much of it. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { ErrorBody } from "../../sdk/protocol/errors.ts";
import type { Role } from "../../sdk/protocol/roles.ts";
import { openTestRegistry, type TestRegistry } from "../../test/support/registry.ts";

const startMs = Date.parse("2026-03-01T00:00:00Z");
const dayMs = 86_400_000;
let registry: TestRegistry;

beforeAll(async () => {
  registry = await openTestRegistry({ ownKeyChangesPerHour: 3, retiredHashesMax: 3 });
});
afterAll(() => registry?.close());
beforeEach(() => {
  registry.clock.nowMs = startMs;
});

const admin = (method: string, path: string, body?: object) =>
  registry.call(registry.adminKey, method, path, body);

async function logIn(subject: string, role: Role) {
  const who = { issuer: "https://idp.example.com", subject, role, hours: 1 };
  const { body } = await registry.call(registry.operatorKey, "POST", "/api/sessions", who);
  const { keyId: id } = (await registry.call(body.token, "GET", "/api/whoami")).body;
  return { id: id as string, token: body.token as string };
}

async function toldKeys(): Promise<{ id: string; ownerName?: string }[]> {
  return (await registry.call(registry.operatorKey, "GET", "/api/snapshot")).body.keys;
}

/** A request whose body comes only once it is known who asks, and something else has happened. */
async function slowly(key: string, path: string, body: object, meanwhile: () => Promise<unknown>) {
  const stream = new ReadableStream(
    {
      async pull(controller) {
        await meanwhile();
        controller.enqueue(new TextEncoder().encode(JSON.stringify(body)));
        controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  const init = { method: "POST", body: stream, duplex: "half" as const };
  const headers = { authorization: `Bearer ${key}` };
  const response = await registry.app.fetch(
    new Request(`http://registry${path}`, { ...init, headers }),
  );
  return { status: response.status, body: (await response.json()) as Partial<ErrorBody> };
}

describe("a change whose body comes slowly is refused", () => {
  const projects = async () => JSON.stringify((await admin("GET", "/api/projects")).body);

  test("to a key that was revoked meanwhile", async () => {
    const { body: made } = await admin("POST", "/api/keys", { name: "slow", role: "admin" });
    const answer = await slowly(made.key, "/api/projects", { name: "by-key" }, () =>
      admin("DELETE", `/api/keys/${made.id}`),
    );
    expect(answer.status).toBe(401);
    expect(await projects()).not.toContain("by-key");
  });

  test("to a person who was disabled meanwhile, and to one whose role was taken", async () => {
    for (const [subject, change, status] of [
      ["disabled", { enabled: false }, 401],
      ["demoted", { role: "reader" }, 403],
    ] as const) {
      const { id, token } = await logIn(subject, "admin");
      const answer = await slowly(token, "/api/projects", { name: `by-${subject}` }, async () => {
        const path = `/v1/organization/users/${id}`;
        expect((await admin("POST", path, change)).status).toBe(200);
      });
      expect([subject, answer.status]).toEqual([subject, status]);
      expect(await projects()).not.toContain(`by-${subject}`);
    }
    const { token } = await logIn("patient", "admin");
    const made = await slowly(token, "/api/projects", { name: "by-patient" }, async () => {});
    expect(made.status).toBe(201);
  });
});

describe("keys that end", () => {
  test("are told for a day, the newest of an owner for longer", async () => {
    const { id: user_id, token } = await logIn("owner-of-keys", "viewer");
    const members = `/v1/organization/projects/${registry.projectId}/users`;
    await admin("POST", members, { role: "member", user_id });
    const made: string[] = [];
    for (const name of ["first", "second"]) {
      const wanted = { name, projectId: registry.projectId };
      const { body } = await registry.call(token, "POST", "/api/me/keys", wanted);
      await registry.call(token, "DELETE", `/api/me/keys/${body.id}`);
      made.push(body.id);
      registry.clock.nowMs += 1000;
    }
    const short = { name: "short", projectId: registry.projectId, expiresInSeconds: 60 };
    const { body: expiring } = await admin("POST", "/api/keys", short);
    const ids = async () => (await toldKeys()).map(({ id }) => id);
    expect(await ids()).toEqual(expect.arrayContaining([...made, expiring.id]));

    registry.clock.nowMs += dayMs + 60_000;
    const { body: other } = await admin("POST", "/api/keys", {
      name: "other",
      projectId: registry.projectId,
    });
    const left = await ids();
    expect(left).toEqual(expect.arrayContaining([made[1], other.id]));
    expect(left).not.toContain(made[0]);
    expect(left).not.toContain(expiring.id);
  });

  test("remember a bounded number of their texts, the first among them", async () => {
    const wanted = { name: "turning", projectId: registry.projectId };
    const { body: made } = await admin("POST", "/api/keys", wanted);
    const retired = async () => {
      const [row] = await registry.database.sql<{ hashes: string[] }[]>`
        select retired_hashes as hashes from registry.api_keys where id = ${made.id}`;
      return row?.hashes ?? [];
    };
    await admin("POST", `/api/keys/${made.id}/rotate`, {});
    const [first] = await retired();
    for (let n = 0; n < 4; n++) await admin("POST", `/api/keys/${made.id}/rotate`, {});
    expect(await retired()).toHaveLength(3);
    expect((await retired())[0]).toBe(first);
  });
});

test("a person makes and rotates so many keys within an hour, and may always revoke them", async () => {
  const { id: user_id, token } = await logIn("busy", "viewer");
  const members = `/v1/organization/projects/${registry.projectId}/users`;
  await admin("POST", members, { role: "member", user_id });
  const make = () =>
    registry.call(token, "POST", "/api/me/keys", { name: "k", projectId: registry.projectId });
  const { body: first } = await make();
  const path = `/api/me/keys/${first.id}`;
  const rotate = () => registry.call(token, "POST", `${path}/rotate`, {});
  expect([(await rotate()).status, (await make()).status]).toEqual([201, 201]);
  const refused = await make();
  expect([refused.status, refused.body.error.code]).toEqual([429, "rate_limit_exceeded"]);
  expect((await rotate()).status).toBe(429);
  expect((await registry.call(token, "DELETE", path)).status).toBe(200);
  registry.clock.nowMs += 3_600_001;
  const again = (await logIn("busy", "viewer")).token;
  const later = await registry.call(again, "POST", "/api/me/keys", {
    name: "k",
    projectId: registry.projectId,
  });
  expect(later.status).toBe(201);
});
