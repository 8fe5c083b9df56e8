/** The adapter-server as a process of its own: it starts from the environment and stops without cutting streams. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { writeTinyEncoder } from "./__fixtures__/tiny-encoder.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Starts the server and waits for the line that tells where it listens. */
async function start(env: Record<string, string>): Promise<{ process: ChildProcess; url: string }> {
  const child = spawn(process.execPath, ["--import", "tsx", "adapter-server/main.ts"], {
    cwd: root,
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /listening on (http:\S+?)"/.exec(line)?.[1];
    if (url !== undefined) return { process: child, url };
  }
  throw new Error("the server ended before it listened");
}

test("a folder with an encoder is served alone, with the same keys, errors and routes for embeddings", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "adapter-server-"));
  const folder = join(dataDir, "export");
  await writeTinyEncoder(folder);
  const server = await start({
    MODEL: folder,
    MODEL_ID: "tiny",
    PORT: "0",
    SWITCHYARD_DATA_DIR: dataDir,
    ADAPTER_SERVER_API_KEY: "client-key-of-the-test",
  });
  const client = new OpenAI({ apiKey: "client-key-of-the-test", baseURL: `${server.url}/v1` });
  const { data } = await client.embeddings.create({ model: "tiny", input: ["the model", "words"] });
  expect(data.map(({ embedding }) => Math.hypot(...embedding))).toEqual([
    expect.closeTo(1, 5),
    expect.closeTo(1, 5),
  ]);
  expect((await client.models.list()).data).toMatchObject([{ id: "tiny", max_model_len: 32 }]);
  await expect(client.embeddings.create({ model: "other", input: "a" })).rejects.toMatchObject({
    status: 404,
  });
  await expect(
    client.chat.completions.create({ model: "tiny", messages: [] }),
  ).rejects.toMatchObject({ status: 404, code: "unknown_url" });
  expect((await fetch(`${server.url}/v1/embeddings`, { method: "POST" })).status).toBe(401);
  expect(await (await fetch(`${server.url}/metrics`)).text()).toContain(
    'vllm:request_success_total{finished_reason="stop",engine="0",model_name="tiny"} 1',
  );
  server.process.kill("SIGTERM");
  expect((await once(server.process, "exit"))[0]).toBe(0);
  await rm(dataDir, { recursive: true });
});

test("a signal to stop lets the stream under way end, refuses new ones, and then the process goes", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "adapter-server-"));
  const server = await start({
    MODEL: "deploy/demo-model/base",
    PORT: "0",
    SWITCHYARD_DATA_DIR: dataDir,
  });
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({
      model: "base",
      messages: [{ role: "user", content: "Hello" }],
      stream: true,
      max_tokens: 400,
      ignore_eos: true,
    }),
  });
  const exit = once(server.process, "exit");
  server.process.kill("SIGTERM");
  const text = await response.text();
  expect(text).toContain('"finish_reason":"length"');
  expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  expect((await exit)[0]).toBe(0);
  await expect(fetch(`${server.url}/health`)).rejects.toThrow();
  await rm(dataDir, { recursive: true });
});
