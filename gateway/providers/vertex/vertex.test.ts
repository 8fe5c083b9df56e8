/** Gemini on Google's cloud, through the real gateway: tokens are fetched, shared, renewed, and never logged. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GoogleGenAI } from "@google/genai";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type GeminiEmulator, startGeminiEmulator } from "../../../test/emulators/gemini.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../../test/support/policy.ts";
import { vertexBaseUrl } from "./index.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const email = "gateway@acme.iam.gserviceaccount.com";
const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
const folder = mkdtempSync(join(tmpdir(), "vertex-"));
const credentialsFile = join(folder, "key.json");

let emulator: GeminiEmulator;
let served: TestGateway | undefined;
let nowMs = Date.now();

beforeAll(async () => {
  emulator = await startGeminiEmulator({
    serviceAccount: {
      email,
      publicKey: publicKey.export({ type: "spki", format: "pem" }).toString(),
      tokenSeconds: 3600,
    },
  });
  writeKey(pem);
});
afterEach(() => served?.close());
afterAll(async () => {
  await emulator.close();
  rmSync(folder, { recursive: true });
});

function writeKey(private_key: string): void {
  const key = {
    type: "service_account",
    project_id: "acme",
    private_key_id: "k1",
    private_key,
    client_email: email,
    token_uri: emulator.tokenUri,
  };
  writeFileSync(credentialsFile, JSON.stringify(key));
}

async function serve(more: { credentialsFile?: string; apiKey?: string } = { credentialsFile }) {
  const models = { gemini: "gemini-3-pro", mine: "endpoints/123" };
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: Object.entries(models).map(([id, upstreamModel]) =>
        testModel(id, { upstream: "vertex", upstreamModel }),
      ),
    }),
    upstreams: [
      {
        name: "vertex",
        type: "vertex",
        project: "acme",
        location: "global",
        baseUrl: `${emulator.origin}/v1/projects/acme/locations/global`,
        ...more,
      },
    ],
    now: () => nowMs,
  });
  return new GoogleGenAI({ apiKey, httpOptions: { baseUrl: served.url } });
}
const ask = (client: GoogleGenAI) =>
  client.models.generateContent({ model: "gemini", contents: "Hi" });

test("one token serves all until shortly before it expires, and nobody sees it", async () => {
  const client = await serve();
  const given = emulator.tokens.length;
  await Promise.all([ask(client), ask(client), ask(client)]);
  expect(emulator.requests.at(-1)?.prefix).toBe(
    "/v1/projects/acme/locations/global/publishers/google",
  );
  expect(emulator.tokens.length).toBe(given + 1);
  nowMs += 54 * 60_000;
  await ask(client);
  expect(emulator.tokens.length).toBe(given + 1);
  nowMs += 2 * 60_000;
  expect((await ask(client)).text).toBe("Hello! How can I help?");
  expect(emulator.tokens.length).toBe(given + 2);
  let text = "";
  const asked = { model: "gemini", contents: "Hi" };
  for await (const chunk of await client.models.generateContentStream(asked)) text += chunk.text;
  expect(text).toBe("Hello! How can I help?");
  expect((await client.models.countTokens(asked)).totalTokens).toBe(1);
  expect(JSON.stringify(served?.log)).not.toMatch(/ya29|PRIVATE/);
});

test("a token that is refused is asked for anew, and a fixed one is used as it is", async () => {
  const client = await serve();
  await ask(client);
  emulator.tokens.push("ya29.another");
  await expect(ask(client)).rejects.toThrow("refused this gateway's credentials");
  expect((await ask(client)).text).toBe("Hello! How can I help?");
  await served?.close();

  emulator.tokens.push("ya29.fixed");
  expect((await ask(await serve({ apiKey: "ya29.fixed" }))).text).toBe("Hello! How can I help?");
});

test("a key that Google does not take is the operator's fault, and is not shown", async () => {
  const other = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  writeKey(other.export({ type: "pkcs8", format: "pem" }).toString());
  const error: unknown = await ask(await serve()).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ status: 502 });
  expect(String(error)).toContain("token service refused it (400)");
  await served?.close();

  writeKey("no key");
  const unset: unknown = await ask(await serve()).catch((thrown: unknown) => thrown);
  expect(String(unset)).toContain("it is no key of a service account");
  expect(String(unset)).not.toContain("no key\\n");
  await served?.close();

  const missing: unknown = await ask(await serve({})).catch((thrown: unknown) => thrown);
  expect(String(missing)).toContain("GOOGLE_APPLICATION_CREDENTIALS");
  writeKey(pem);
});

test("locations have their own hosts", () => {
  const host = (location: string) => new URL(vertexBaseUrl({ project: "p", location })).host;
  expect(host("global")).toBe("aiplatform.googleapis.com");
  expect(host("europe-west4")).toBe("europe-west4-aiplatform.googleapis.com");
  expect(host("eu")).toBe("aiplatform.eu.rep.googleapis.com");
});
