/** The adapter-server as a process of its own: it starts from the environment and stops without cutting streams. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

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
