/** A whole adapter-server over the demo model, asked in this process. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { createTokenizer, type Tokenizer } from "../models/tokenizer.ts";
import { type AdapterServer, type AdapterServerOptions, createAdapterServer } from "../server.ts";
import { demoFolder } from "./demo-model.ts";

export type DemoServer = {
  server: AdapterServer;
  tokenizer: Tokenizer;
  /** The official client, as the operator. */
  client: OpenAI;
  post(path: string, body: unknown): Promise<Response>;
  /** The answer, which must be one. */
  ask<T>(path: string, body: unknown): Promise<T>;
  /** The error, with its status. */
  refusal(path: string, body: unknown): Promise<Record<string, unknown>>;
  /** Loads an adapter of the demo model under its folder's name. */
  load(name: string): Promise<void>;
  close(): Promise<void>;
};

export const demoModelId = "support-tiny";

export async function openDemoServer(
  options: Partial<AdapterServerOptions> = {},
): Promise<DemoServer> {
  const dataDir = await mkdtemp(join(tmpdir(), "demo-server-"));
  const operatorKey = "operator-key-of-the-test";
  const server = await createAdapterServer({
    model: { id: demoModelId, folder: join(demoFolder, "base") },
    format: "f32",
    dataDir,
    operatorKey,
    adapterFolders: [join(demoFolder, "adapters")],
    threads: 2,
    version: "test",
    onFault: (message, cause) => {
      throw new Error(message, { cause });
    },
    ...options,
    limits: { adapterSlots: 2, kvCacheTokens: 4096, sequencesMax: 8, ...options.limits },
  });
  const { app } = server;
  const post: DemoServer["post"] = async (path, body) =>
    app.fetch(
      new Request(`http://test${path}`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${operatorKey}`,
          "content-type": "application/json",
        },
        body: JSON.stringify(body),
      }),
    );
  const client = new OpenAI({
    apiKey: operatorKey,
    baseURL: "http://test/v1",
    maxRetries: 0,
    fetch: async (url, init) => app.fetch(new Request(url, init)),
  });
  return {
    server,
    tokenizer: createTokenizer(server.model.tokenizer),
    client,
    post,
    async ask(path, body) {
      const response = await post(path, body);
      const text = await response.text();
      if (response.status !== 200) throw new Error(`${path} answers ${response.status}: ${text}`);
      return JSON.parse(text);
    },
    async refusal(path, body) {
      const response = await post(path, body);
      const { error } = (await response.json()) as { error: Record<string, unknown> };
      return { status: response.status, ...error };
    },
    async load(name) {
      const answer = await post("/v1/load_lora_adapter", { lora_name: name, lora_path: name });
      if (answer.status !== 200) throw new Error(await answer.text());
    },
    async close() {
      await server.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
