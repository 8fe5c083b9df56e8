/** What is done for a wrong key: the same whatever is wrong with it, and bounded for whoever sends many. */
import { hash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { Identity } from "../../gateway/identity/identity.ts";
import { SnapshotIndex } from "../../gateway/snapshot/snapshot-index.ts";
import { generateKey } from "../../registry/keys.ts";
import { isSessionToken, newSessionToken } from "../../sdk/protocol/session-token.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { testKey, testProject, testSnapshot } from "../support/policy.ts";

const project = testProject("acme");
const real = generateKey("project");
const revoked = generateKey("project");
const keys = [
  testKey(real, { projectId: project.id }),
  testKey(revoked, { projectId: project.id, revokedAt: "2026-01-01T00:00:00Z" }),
];
const snapshot = testSnapshot({ projects: [project], keys });
const wrong: [string, string][] = [
  ["of a prefix that nobody has", generateKey("project").replace("sk-sy-", "sk-xx-")],
  ["with a wrong checksum", `${generateKey("project").slice(0, -6)}000000`],
  ["with a secret that nobody has", generateKey("project")],
  ["that is right but for its last character", `${real.slice(0, -1)}!`],
  ["that was revoked", revoked],
];

test.each(wrong)("a key %s costs two hashes and two look-ups", (_, text) => {
  const index = new SnapshotIndex(snapshot);
  const done: string[] = [];
  const identity = new Identity({
    snapshot: () =>
      new Proxy(index, {
        get: (of, name) => {
          const member = Reflect.get(of, name);
          if (typeof member !== "function") return member;
          return (...asked: unknown[]) => {
            done.push(String(name));
            return member.apply(of, asked);
          };
        },
      }),
    now: () => 0,
    cacheMax: 9,
    digest(key) {
      done.push("hash");
      return hash("sha256", key);
    },
  });
  const authorization = `Bearer ${text}`;
  // As the door does it: where a key may be used, then whose it is.
  identity.refuseOutside(authorization, {
    method: "GET",
    path: "/v1/models",
    address: "192.0.2.1",
  });
  expect(() => identity.identify(authorization)).toThrow(
    expect.objectContaining({ code: "invalid_api_key" }),
  );
  expect(done).toEqual(["hash", "keyByHash", "hash", "keyByHash"]);
});

let gateway: TestGateway;
const clock = { nowMs: Date.now() };
beforeAll(async () => {
  gateway = await startTestGateway({
    snapshot,
    limits: { wrongKeysPerMinuteMax: 8, wrongKeyAddressesMax: 2 },
    now: () => clock.nowMs,
  });
});
afterAll(() => gateway?.close());

/** The status that an upgrade to a WebSocket is answered with. */
function connect(key: string, path: string): Promise<number | undefined> {
  const socket = new WebSocket(gateway.url.replace("http", "ws") + path, {
    headers: { authorization: `Bearer ${key}` },
  });
  return new Promise((resolve) => {
    socket.on("error", () => {});
    socket.on("upgrade", () => resolve(101));
    socket.on("open", () => socket.terminate());
    socket.on("unexpected-response", (_, response) => {
      response.resume();
      resolve(response.statusCode);
    });
  });
}

const ask = (key: string, path = "/v1/models") =>
  fetch(gateway.url + path, { headers: { authorization: `Bearer ${key}` } });

test("no wrong key reaches the registry, on addresses of the registry either", async () => {
  clock.nowMs += 60_000;
  const before = gateway.registry.requests.length;
  for (const [, text] of wrong) {
    const answer = await ask(text, "/api/projects");
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ error: { code: "invalid_api_key" } });
  }
  expect(gateway.registry.requests.length).toBe(before);
  expect((await ask(real, "/api/projects")).status).toBe(200);
  expect(gateway.registry.requests.length).toBe(before + 1);
});

test("of one address so many a minute are told to be wrong, further ones to wait, and right keys pass", async () => {
  clock.nowMs += 60_000;
  for (let turn = 0; turn < 8; turn++) expect((await ask(generateKey("project"))).status).toBe(401);
  const lines = gateway.log.length;
  const held = await ask(generateKey("project"));
  expect(held.status).toBe(429);
  expect(Number(held.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await held.json()).toMatchObject({ error: { code: "rate_limit_exceeded" } });
  expect(gateway.log.length).toBe(lines);
  expect(await (await fetch(`${gateway.url}/metrics`)).text()).toMatch(
    /gateway_wrong_keys_held_total [1-9]/,
  );
  expect((await ask(real)).status).toBe(200);
  clock.nowMs += 60_000;
  expect((await ask(generateKey("project"))).status).toBe(401);
});

test.each(["/v1/realtime?model=m", "/v1/responses"])(
  "connections to %s with wrong keys count as well, and right keys pass",
  async (path) => {
    clock.nowMs += 60_000;
    for (let turn = 0; turn < 8; turn++)
      expect(await connect(generateKey("project"), path)).toBe(401);
    const lines = gateway.log.length;
    expect(await connect(generateKey("project"), path)).toBe(429);
    expect((await ask(generateKey("project"))).status).toBe(429);
    expect(gateway.log.length).toBe(lines);
    // That model is none, and that connection is taken.
    expect(await connect(real, path)).toBe(path === "/v1/responses" ? 101 : 404);
  },
);

test("a key that is made is known, and one that is revoked refused, with the next snapshot", async () => {
  clock.nowMs += 60_000;
  const late = generateKey("project");
  expect((await ask(late)).status).toBe(401);
  const made = testKey(late, { projectId: project.id });
  gateway.registry.publish({ ...snapshot, version: 2, keys: [...keys, made] });
  await expect.poll(async () => (await ask(late)).status).toBe(200);
  const gone = { ...made, revokedAt: "2026-01-01T00:00:00Z" };
  gateway.registry.publish({ ...snapshot, version: 3, keys: [...keys, gone] });
  await expect.poll(async () => (await ask(late)).status).toBe(401);
});

test("a session's token that was made up is known as such by its signature", async () => {
  const token = await newSessionToken("the operator's key");
  expect(token).toMatch(/^sys_[\w-]{64}$/);
  expect(await isSessionToken(token, "the operator's key")).toBe(true);
  for (const [text, secret] of [
    [token, "another's key"],
    [`${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`, "the operator's key"],
    [token.slice(0, -4), "the operator's key"],
    [`sys_${"A".repeat(64)}`, "the operator's key"],
    ["sys_", "the operator's key"],
    ["sys_!", "the operator's key"],
  ] as const) {
    expect(await isSessionToken(text, secret)).toBe(false);
  }
});
