/**
 * Nothing that the product writes beside its database holds a key, a prompt or an answer, whatever clients do; and of a
 * project that lets contents be kept nor does its database, where they are sealed.
 */
import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { type OtlpCollector, startOtlpCollector } from "../emulators/otlp.ts";
import { call, createTenant, type Tenant } from "../support/api.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { writeSettings } from "../support/settings.ts";

const prompt = "prompt-mark-5d1e0c7a";
const answer = "answer-mark-9b42f6d3";
const providerKey = "sk-provider-mark-c08e4417";
const wrongKey = "sk-sy-wrong-mark-2f6ba915";
const sealedPrompt = "sealed-mark-e61b40d2";
const unsealedPrompt = "unsealed-mark-07fa93c8";
const contentKey = randomBytes(32).toString("base64");
const faults = ["status:500", "status:401", "status:429", "status:400", "reset", "malformed"];
const streamFaults = ["cut:1", "error-event:1", "no-usage"];
let server: RunningServer;
let emulator: OpenAiEmulator;
let collector: OtlpCollector;
let settings: Awaited<ReturnType<typeof writeSettings>>;

beforeAll(async () => {
  [emulator, collector] = await Promise.all([
    startOpenAiEmulator({ apiKey: providerKey, answer: () => answer }),
    startOtlpCollector(),
  ]);
  settings = await writeSettings({
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: emulator.baseUrl, apiKeyEnv: "PROVIDER_KEY" },
    ],
    models: ["gpt", ...[...faults, ...streamFaults].map((fault) => `gpt!${fault}`)].map((name) => ({
      id: name.replace(/[!:]/g, "-"),
      upstream: "emulated",
      upstreamModel: name,
      prices: { input: "0.10", output: "0.50" },
    })),
    gateway: { breakerFailures: 1000, retriesMax: 0 },
  });
  server = await startServer({
    env: {
      SWITCHYARD_CONFIG: settings.path,
      SWITCHYARD_LOG_LEVEL: "debug",
      PROVIDER_KEY: providerKey,
      CONTENT_LOG_KEY: contentKey,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_BSP_SCHEDULE_DELAY: "50",
    },
  });
});
afterAll(async () => {
  await server.stop();
  await Promise.all([emulator.close(), collector.close(), settings.remove()]);
});

test("no log line, file, metric or span holds a key, a prompt or an answer", async () => {
  const { url, apiKey, adminKey } = server;
  // A first start shows its new key, once, to whoever started it.
  const announced = server.output().length;
  const chat = { messages: [{ role: "user", content: prompt }] };
  const statuses = new Map<string, number>();
  const send = async (path: string, body: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(url + path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${apiKey}`,
        "content-type": "application/json",
        ...headers,
      },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    // A stream that breaks ends so.
    const text = await response.text().catch(() => "");
    statuses.set(
      `${path} ${response.status}`,
      (statuses.get(`${path} ${response.status}`) ?? 0) + 1,
    );
    return text;
  };
  const chatPath = "/v1/chat/completions";

  expect(await send(chatPath, { model: "gpt", ...chat })).toContain(answer);
  expect(await send(chatPath, { model: "gpt", stream: true, ...chat })).toContain("answer");
  for (const fault of faults) {
    await send(chatPath, { model: `gpt-${fault.replace(":", "-")}`, ...chat });
  }
  for (const fault of streamFaults) {
    await send(chatPath, { model: `gpt-${fault.replace(":", "-")}`, stream: true, ...chat });
  }
  await send("/v1/responses", { model: "gpt", input: prompt });
  await send("/v1/messages", { model: "gpt", max_tokens: 9, ...chat }, { "x-api-key": apiKey });
  await send("/v1beta/models/gpt:generateContent", { contents: [{ parts: [{ text: prompt }] }] });
  await send("/v1/embeddings", { model: "gpt", input: prompt });
  // What is wrong with a request is told to its client and to nobody else.
  await send(chatPath, `{"model": "gpt", "${prompt}`);
  await send(chatPath, { model: "nothing", ...chat });
  await send(chatPath, { model: "gpt", messages: prompt });
  await send(chatPath, { model: "gpt", ...chat, temperature: prompt });
  await send(chatPath, { model: "gpt", ...chat }, { authorization: `Bearer ${wrongKey}` });
  await send(chatPath, { model: "gpt", ...chat }, { "x-switchyard-explain": "1", cookie: apiKey });
  await send(chatPath, { model: "gpt", ...chat }, { "idempotency-key": "leaks-1" });
  await send(`/v1/nowhere?key=${apiKey}`, { prompt });
  const made = await send("/api/keys", "{}", { authorization: `Bearer ${adminKey}` });
  expect(made).toContain("error");
  const left = new AbortController();
  const leaving = fetch(url + chatPath, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt", stream: true, ...chat }),
    signal: left.signal,
  });
  await (await leaving).body?.getReader().read();
  left.abort();
  // It was as broad as it is meant to be: answered, refused, failed.
  const seen = [...statuses.keys()].join("\n");
  for (const status of [200, 400, 401, 404, 429, 502]) expect(seen).toContain(` ${status}`);

  const metrics = await (await fetch(`${url}/metrics`)).text();
  await expect.poll(() => collector.spans.length).toBeGreaterThan(20);
  const written = [
    { where: "metrics", text: metrics },
    { where: "spans", text: JSON.stringify([collector.spans, collector.points]) },
    ...(await filesOf(server.dataDir)),
    { where: "stdout and stderr", text: server.output().slice(announced) },
  ];
  expect(server.output()).toContain('"msg":"request"');
  expect(written.some(({ where }) => where.startsWith("spool"))).toBe(true);
  const { operatorKey } = JSON.parse(await readFile(join(server.dataDir, "keys.json"), "utf8"));
  const secrets = { prompt, answer, providerKey, wrongKey, apiKey, adminKey, operatorKey };
  const found = written.flatMap(({ where, text }) =>
    Object.entries(secrets).flatMap(([name, secret]) =>
      secret !== undefined && text.includes(secret) ? [`${name} in ${where}`] : [],
    ),
  );
  expect(found).toEqual([]);
});

test("what a project lets be kept is sealed in every file, and of one that does not nothing is kept", async () => {
  const { url, adminKey } = server;
  const consenting = await createTenant(url, adminKey, "consenting", { contentLog: {} });
  const silent = await createTenant(url, adminKey, "silent");
  const send = async (tenant: Tenant, content: string, stream: boolean) => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${tenant.key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt", stream, messages: [{ role: "user", content }] }),
    });
    await response.text();
    return response.headers.get("x-request-id");
  };
  const contentOf = (id: string | null) =>
    call(url, adminKey, "GET", `/api/requests/${id}/content`);
  for (const stream of [false, true]) {
    const kept = await contentOf(await send(consenting, sealedPrompt, stream));
    expect(kept.status).toBe(200);
    expect(JSON.stringify(kept.body)).toContain(sealedPrompt);
    expect(JSON.stringify(kept.body)).toContain(answer);
    expect((await contentOf(await send(silent, unsealedPrompt, stream))).status).toBe(404);
  }
  const written = [
    ...(await filesOf(server.dataDir, /^keys\.json$/)),
    { where: "stdout and stderr", text: server.output() },
  ];
  expect(written.some(({ where }) => where.startsWith("pglite"))).toBe(true);
  const found = written.flatMap(({ where, text }) =>
    [sealedPrompt, unsealedPrompt, contentKey]
      .filter((mark) => text.includes(mark))
      .map(() => where),
  );
  expect(found).toEqual([]);
});

/** All but the database, which keeps what clients have stored, and the file that is there to hold the keys. */
async function filesOf(
  dataDir: string,
  left = /^pglite\b|^keys\.json$/,
): Promise<{ where: string; text: string }[]> {
  const entries = await readdir(dataDir, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(dataDir, join(entry.parentPath, entry.name)))
    .filter((path) => !left.test(path));
  return Promise.all(
    paths.map(async (where) => ({ where, text: await readFile(join(dataDir, where), "latin1") })),
  );
}
