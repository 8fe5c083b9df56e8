/** An adapter's folder goes away, or changes, while it is read: it is loaded whole or refused by name, and never in part. */
import { cp, mkdtemp, rename, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  demoAdapters,
  demoDigest,
  openTestServer,
  type TestServer,
  userSays,
} from "../support/adapter-server.ts";

const original = "support-triage";
let root: string;
let server: TestServer;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "switchyard-vanishing-"));
  server = await openTestServer({ adapterFolders: [root], source: undefined });
});
afterAll(async () => {
  await server?.close();
  await rm(root, { recursive: true, force: true });
});

const load = (name: string) =>
  server.post("/v1/load_lora_adapter", { lora_name: name, lora_path: name });

async function namesListed(): Promise<string[]> {
  const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as {
    data: { id: string }[];
  };
  return data.map(({ id }) => id);
}

async function ask(model: string) {
  const response = await server.post("/v1/chat/completions", {
    model,
    messages: userSays("My parcel never came"),
    temperature: 0,
    max_tokens: 16,
  });
  const answer = (await response.json()) as { choices: { message: { content: string } }[] };
  const digest = response.headers.get("x-switchyard-adapter");
  return { status: response.status, digest, text: answer.choices?.[0]?.message.content };
}

const harms: [string, (folder: string) => Promise<unknown>][] = [
  ["is removed", (folder) => rm(folder, { recursive: true, force: true })],
  ["is renamed", (folder) => rename(folder, `${folder}-away`)],
  ["loses its weights", (folder) => rm(join(folder, "adapter_model.safetensors"))],
  ["is cut short", (folder) => truncate(join(folder, "adapter_model.safetensors"), 1000)],
];

test.each(harms)("a folder that %s while it loads", async (_what, harm) => {
  const outcomes: number[] = [];
  let whole: Awaited<ReturnType<typeof ask>> | undefined;
  for (let round = 0; round < 24; round++) {
    const name = `adapter-${outcomes.length}-${round}`;
    const folder = join(root, name);
    await cp(join(demoAdapters, original), folder, { recursive: true });
    const loading = load(name);
    // At another moment each time; the last rounds wait until it is loaded.
    if (round > 20) await loading;
    else await sleep(round / 3);
    await harm(folder);
    const response = await loading;
    const text = await response.text();
    outcomes.push(response.status);
    const listed = await namesListed();
    if (response.status === 200) {
      expect(listed).toContain(name);
      // What was loaded does not need its folder any more.
      const answer = await ask(name);
      expect(answer).toMatchObject({
        status: 200,
        digest: expect.stringContaining(await demoDigest(original)),
      });
      whole ??= answer;
      expect(answer).toEqual(whole);
      await server.post("/v1/unload_lora_adapter", { lora_name: name });
    } else {
      expect(listed).not.toContain(name);
      expect([400, 404]).toContain(response.status);
      expect(text).toMatch(/No adapter found|adapter_model\.safetensors|safetensors|tensor|bytes/);
      expect((await ask(name)).status).toBe(404);
    }
  }
  expect(outcomes.slice(-3)).toEqual([200, 200, 200]);
  expect(outcomes.filter((status) => status !== 200).length).toBeGreaterThan(0);
  expect(server.faults).toEqual([]);
});
