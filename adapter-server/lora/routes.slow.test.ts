/** vLLM's load and unload routes against what a real vLLM answered, and SGLang's, over the real engine and demo model. */
import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { type AdapterServer, createAdapterServer } from "../server.ts";
import recording from "./__fixtures__/vllm-0.32.json" with { type: "json" };

const operatorKey = "operator-key-of-the-test";
const apiKey = "client-key-of-the-test";
let root: string;
let server: AdapterServer;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "switchyard-routes-"));
  await layOut();
  server = await createAdapterServer({
    model: { id: "smollm2", folder: join(demoFolder, "base") },
    format: "f32",
    dataDir: join(root, "data"),
    operatorKey,
    apiKey,
    adapterFolders: [root],
    limits: { adapterSlots: 2, kvCacheTokens: 1024, sequencesMax: 4 },
    threads: 1,
    version: "test",
    onFault: (message, cause) => {
      throw new Error(message, { cause });
    },
  });
});
afterAll(async () => {
  await server?.close();
  await rm(root, { recursive: true, force: true });
});

/** What vLLM blames on its worker, with 500: here it is the file's fault, and said so. */
const filesAtFault = /no weights|truncated|garbage|bad config json/;

test("every recorded load and unload is answered as vLLM 0.32 answered it, byte for byte", async () => {
  let compared = 0;
  for (const one of recording.exchanges) {
    const response = await send(one.method, one.path, local(one.request), {
      "content-type": /content type/.test(one.title) ? "text/plain" : "application/json",
    });
    const body = await response.text();
    if (filesAtFault.test(one.title)) {
      expect({ title: one.title, status: response.status }).toEqual({
        title: one.title,
        status: 400,
      });
      expect(JSON.parse(body).error.code).toMatch(/^(invalid|unsupported)_adapter$/);
      continue;
    }
    const { headers, status } = response;
    expect({
      title: one.title,
      status,
      body: body.replaceAll(root, "/srv/test"),
      contentType: headers.get("content-type"),
      allow: headers.get("allow"),
    }).toEqual({
      title: one.title,
      status: one.status,
      body: one.body,
      contentType: one.contentType,
      allow: one.allow,
    });
    compared++;
  }
  expect(compared).toBe(29);
});

type Update = {
  success: boolean;
  error_message: string | null;
  loaded_adapters: Record<string, string>;
};
const sglang = async (path: string, body: unknown, key = operatorKey) => {
  const response = await send("POST", path, JSON.stringify(body), {
    authorization: `Bearer ${key}`,
  });
  return { status: response.status, ...((await response.json()) as Update) };
};

test("SGLang's routes tell whether it worked, why not, and what is loaded then", async () => {
  const load = { lora_name: "sg", lora_path: "adapters/r8-1" };
  const loaded = await sglang("/load_lora_adapter", { ...load, pinned: true });
  expect(loaded).toMatchObject({ status: 200, success: true, error_message: null });
  expect(loaded.loaded_adapters).toMatchObject({ sg: expect.stringContaining("adapters/r8-1") });
  const again = await sglang("/load_lora_adapter", load);
  expect(again).toMatchObject({ status: 400, success: false });
  expect(again.error_message).toContain("already loaded");
  for (const wrong of [
    { lora_name: "../sg", lora_path: "adapters/r8-1" },
    { lora_name: "smollm2", lora_path: "adapters/r8-1" },
    { lora_name: "missing", lora_path: "adapters/none" },
    { lora_name: "outside", lora_path: "/etc" },
    { lora_name: "broken", lora_path: "bad/garbage" },
  ]) {
    const refused = await sglang("/load_lora_adapter", wrong);
    expect(refused).toMatchObject({
      status: 400,
      success: false,
      error_message: expect.any(String),
    });
    expect(refused.loaded_adapters).toEqual(loaded.loaded_adapters);
  }
  const removed = await sglang("/unload_lora_adapter", { lora_name: "sg" });
  expect(removed).toMatchObject({ status: 200, success: true });
  expect(removed.loaded_adapters).not.toHaveProperty("sg");
  const gone = await sglang("/unload_lora_adapter", { lora_name: "sg" });
  expect(gone).toMatchObject({ status: 400, success: false });
  const missing = await sglang("/load_lora_adapter", { lora_name: "sg" });
  expect(missing).toMatchObject({ status: 400, error: { param: "lora_path" } });
  const client = await sglang("/load_lora_adapter", load, apiKey);
  expect(client).toMatchObject({ status: 401, error: { code: "invalid_api_key" } });
});

test("an adapter is asked for by its name alone, and as SGLang does over its base", async () => {
  const path = "adapters/r8-0";
  await sglang("/load_lora_adapter", { lora_name: "colon", lora_path: path });
  const answers = await Promise.all(
    ["colon", "smollm2:colon"].map(async (model) => {
      const body = {
        model,
        messages: [{ role: "user", content: "Hi" }],
        max_tokens: 4,
        temperature: 0,
      };
      const response = await send("POST", "/v1/chat/completions", JSON.stringify(body), {});
      const { choices } = (await response.json()) as { choices: { message: unknown }[] };
      return {
        adapter: response.headers.get("x-switchyard-adapter"),
        message: choices[0]?.message,
      };
    }),
  );
  expect(answers[0]?.adapter).toMatch(/^[0-9a-f]{64}$/);
  expect(answers[1]).toEqual(answers[0]);
});

/** Requests go to the folder of this test where the recording's went to its own. */
function local(text: string): string {
  return text.replaceAll("/srv/test", root);
}

async function send(method: string, path: string, body: string, headers: Record<string, string>) {
  const all = {
    authorization: `Bearer ${operatorKey}`,
    "content-type": "application/json",
    ...headers,
  };
  const init = method === "GET" ? { method, headers: all } : { method, headers: all, body };
  return server.app.fetch(new Request(`http://test${path}`, init));
}

/** The folders that the recording loads from. */
async function layOut(): Promise<void> {
  const good = ["r8-0", "r8-1", "r8-2", "r8-3", "r8-4", "r8-5", "r8-6", "r8-7", "r16", "qv8"];
  const demos = ["banking-intent", "restaurant-slots", "support-triage", "tone-formal"];
  const copy = (index: number, name: string) =>
    cp(join(demoFolder, "adapters", demos[index % 4]!), join(root, name), { recursive: true });
  for (const [index, name] of good.entries()) await copy(index, `adapters/${name}`);
  for (const name of ["noweights", "noconfig", "trunc", "garbage", "badjson"])
    await copy(0, `bad/${name}`);
  await mkdir(join(root, "bad/empty"));
  const weights = (name: string) => join(root, "bad", name, "adapter_model.safetensors");
  const config = (name: string) => join(root, "bad", name, "adapter_config.json");
  await rm(weights("noweights"));
  await rm(config("noconfig"));
  await truncate(weights("trunc"), (await readFile(weights("trunc"))).length >> 1);
  await writeFile(weights("garbage"), Buffer.alloc(4096, 0xff));
  await writeFile(config("badjson"), "{not json");
}
