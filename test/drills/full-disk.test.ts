/** The disk below the kept adapter files is full: requests are answered all the same, and nothing half-written stays. */
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import {
  baseId,
  demoDigest,
  openTestServer,
  type TestServer,
  userSays,
} from "../support/adapter-server.ts";

const names = ["banking-intent", "restaurant-slots", "support-triage", "tone-formal"];
const cleanUps: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

test("adapters are served from their source while none can be kept, and kept once they can", async ({
  skip,
}) => {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-full-"));
  cleanUps.push(() => rm(dataDir, { recursive: true, force: true }));
  const disk = join(dataDir, "adapters");
  await mkdir(disk);
  try {
    const options = ["-t", "tmpfs", "-o", "size=128k", "tmpfs", disk];
    execFileSync("mount", options, { stdio: "ignore" });
  } catch {
    return skip("needs the right to mount a tmpfs");
  }
  cleanUps.push(() => execFileSync("umount", [disk]));
  // Room for the largest of them: most requests need files.
  const server = await openTestServer({ dataDir, limits: { adapterHostBytesMax: 2_400_000 } });
  cleanUps.push(() => server.close());

  const first = await askAll(server);
  expect(await readdir(disk)).toEqual([]);
  expect(await askAll(server)).toEqual(first);
  const loaded = await server.post("/v1/load_lora_adapter", {
    lora_name: "triage",
    lora_path: "support-triage",
  });
  expect(loaded.status).toBe(200);
  expect(await readdir(disk)).toEqual([]);

  execFileSync("mount", ["-o", "remount,size=64m", disk]);
  expect(await askAll(server)).toEqual(first);
  const digests = await Promise.all(names.map(demoDigest));
  expect((await readdir(disk)).sort()).toEqual(digests.sort());
  expect(server.faults).toEqual([]);
});

async function askAll(server: TestServer): Promise<unknown[]> {
  const answers: unknown[] = [];
  for (const name of names) {
    const response = await server.post("/v1/chat/completions", {
      model: `${baseId}@sha256-${await demoDigest(name)}`,
      messages: userSays("Hello"),
      temperature: 0,
      max_tokens: 8,
    });
    const { choices } = (await response.json()) as { choices: { message: unknown }[] };
    expect(response.status).toBe(200);
    answers.push(choices[0]?.message);
  }
  return answers;
}
