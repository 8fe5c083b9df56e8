/** Callers who may not, and names that mean harm: refused alike on every route, and nothing of them is left. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  baseId,
  demoDigest,
  openTestServer,
  operatorKey,
  type TestServer,
  userSays,
} from "../support/adapter-server.ts";

const apiKey = "client-key-of-the-test";
let server: TestServer;
beforeAll(async () => {
  server = await openTestServer({ apiKey });
});
afterAll(async () => {
  expect(server?.faults).toEqual([]);
  await server?.close();
});

const operatorRoutes = [
  "/v1/load_lora_adapter",
  "/v1/unload_lora_adapter",
  "/load_lora_adapter",
  "/unload_lora_adapter",
];

async function models(): Promise<string[]> {
  const headers = { authorization: `Bearer ${operatorKey}` };
  const answer = await (await fetch(`${server.url}/v1/models`, { headers })).json();
  return (answer as { data: { id: string }[] }).data.map(({ id }) => id);
}

describe.each(operatorRoutes)("%s", (path) => {
  const body = { lora_name: "triage", lora_path: "support-triage" };

  test.each([
    ["no key", ""],
    ["a client's key", apiKey],
    ["a wrong key", "operator-key-of-the-tesT"],
    ["the beginning of the key", operatorKey.slice(0, -1)],
    ["the key and more", `${operatorKey} `.padEnd(64, "x")],
  ])("with %s is refused before anything is read of the body", async (_who, key) => {
    for (const sent of [body, { lora_name: 7 }, {}]) {
      const refused = await server.post(path, sent, { key });
      expect(refused.status).toBe(401);
      const { error } = (await refused.json()) as { error: { code: string; message: string } };
      expect(error.code).toMatch(/^(missing|invalid)_api_key$/);
      expect(JSON.stringify(error)).not.toContain(operatorKey);
    }
    expect(await models()).toEqual([baseId]);
  });
});

test.each([
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/tokenize",
  "/detokenize",
  "/generate",
  "/generate_stream",
  "/",
])("%s answers nobody without a key, nor with a wrong one", async (path) => {
  for (const key of ["", "a-wrong-key-of-the-test"]) {
    const refused = await server.post(path, { model: baseId, inputs: "Hi", prompt: "Hi" }, { key });
    expect(refused.status).toBe(401);
    expect(await refused.text()).not.toContain(operatorKey);
  }
});

const hostileNames = [
  "../support-triage",
  "..",
  ".",
  "a/../b",
  "a/b",
  "/etc/passwd",
  "C:\\Windows",
  "triage\n",
  "tri\nage",
  "triage\r\nx-switchyard-tenant: other",
  "tri\u0000age",
  "tri\u200bage",
  "tri\u202eage",
  // Cyrillic letters, and a full-width one, that look like Latin ones.
  "tri\u0430ge",
  "support-tr\u0456age",
  "\uff54riage",
  "triage ",
  " triage",
  'tri"age',
  'triage"} 1\nevil{a="',
  "triage,tone",
  "__proto__",
  "constructor",
  "x".repeat(65),
  "x".repeat(100_000),
  "\ud800",
  baseId,
];

test.each(hostileNames.map((name) => [JSON.stringify(name).slice(0, 60), name]))(
  "an adapter cannot be called %s, nor be asked for by it",
  async (_shown, name) => {
    const loaded = await server.post("/v1/load_lora_adapter", {
      lora_name: name,
      lora_path: "support-triage",
    });
    expect(loaded.status).toBe(400);
    expect((await loaded.text()).length).toBeLessThan(1000);
    expect(await models()).toEqual([baseId]);
    if (name === baseId) return;
    const asked = await server.post("/v1/chat/completions", {
      model: name,
      messages: userSays("Hello"),
      max_tokens: 1,
    });
    // A name that no request may have is refused as such, all others as unknown.
    expect([400, 404]).toContain(asked.status);
    expect((await asked.text()).length).toBeLessThan(1000);
    const removed = await server.post("/v1/unload_lora_adapter", { lora_name: name });
    expect([400, 404]).toContain(removed.status);
  },
);

test("names that mean harm leave nothing in the metrics", async () => {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).not.toMatch(/evil|triage|passwd/);
  for (const line of metrics.split("\n").filter(Boolean))
    expect(line).toMatch(/^(# |[a-z][a-z0-9_:]*[{ ])/);
});

test("another tenant's adapter is, to a client, as one that does not exist", async () => {
  const digest = await demoDigest("support-triage");
  const body = { messages: userSays("Hello"), max_tokens: 4 };
  const theirs = { key: apiKey, headers: { "x-switchyard-tenant": "another" } };
  // The operator's gateway has it in memory, for a tenant of its own.
  const used = await server.post(
    "/v1/chat/completions",
    { ...body, model: `${baseId}@sha256-${digest}` },
    { headers: { "x-switchyard-tenant": "owner" } },
  );
  expect(used.status).toBe(200);
  const answers = await Promise.all(
    [digest, "0".repeat(64)]
      .flatMap((one) => [
        { ...body, model: `sha256-${one}` },
        { ...body, model: `${baseId}@sha256-${one}` },
        { ...body, model: baseId, adapters: [{ model: `sha256-${one}`, weight: 1 }] },
      ])
      .map(async (request) => {
        const response = await server.post("/v1/chat/completions", request, theirs);
        const text = await response.text();
        return { status: response.status, text: text.replaceAll(/[0-9a-f]{64}/g, "DIGEST") };
      }),
  );
  expect(answers.map(({ status }) => status)).toEqual(new Array(6).fill(404));
  expect(answers.slice(0, 3)).toEqual(answers.slice(3));
});
