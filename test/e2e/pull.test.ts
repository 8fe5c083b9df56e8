/** `models pull` as a person runs it: killed in the middle, gone on with, imported, and served. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type HubEmulator, startHubEmulator } from "../emulators/hub.ts";
import { eventually } from "../support/api.ts";
import { type Cli, openCli } from "../support/cli.ts";
import { startServer } from "../support/server.ts";
import { writeSettings } from "../support/settings.ts";

const base = fileURLToPath(new URL("../../deploy/demo-model/base", import.meta.url));
const bin = fileURLToPath(new URL("../../deploy/cli/bin.js", import.meta.url));

let hub: HubEmulator;
let dataDir: string;
let cli: Cli;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-e2e-pull-"));
  const names = await readdir(base);
  const files = await Promise.all(
    names.map(async (name): Promise<[string, Buffer]> => [name, await readFile(join(base, name))]),
  );
  hub = await startHubEmulator({
    repos: { "demo/support-tiny": { files: Object.fromEntries(files), licence: "apache-2.0" } },
    pieceDelayMs: 5,
  });
  cli = openCli({ SWITCHYARD_DATA_DIR: dataDir, HF_ENDPOINT: hub.endpoint });
});
afterAll(async () => {
  await hub.close();
  await rm(dataDir, { recursive: true, force: true });
});

test("a pull that is killed in the middle is gone on with, not begun anew", async () => {
  const child = spawn(process.execPath, [bin, "models", "pull", "hf:demo/support-tiny"], {
    env: { PATH: process.env.PATH, SWITCHYARD_DATA_DIR: dataDir, HF_ENDPOINT: hub.endpoint },
    stdio: "ignore",
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const folder = join(dataDir, "sources/demo--support-tiny", hub.commitOf("demo/support-tiny"));
  const part = join(folder, "model.safetensors.incomplete");
  await eventually("a part of the weights", async () =>
    existsSync(part) && (await stat(part)).size > 1_000_000 ? true : undefined,
  );
  child.kill("SIGKILL");
  await ended;
  const had = (await stat(part)).size;
  const list = await cli.json<{ sources: unknown[]; unfinished: unknown[] }>("models", "list");
  expect(list).toMatchObject({ sources: [], unfinished: [{ repo: "demo/support-tiny" }] });
  const refused = await cli.run("models", "import", "hf:demo/support-tiny");
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain("A pull of it was begun and has not ended.");

  hub.requests.length = 0;
  const pulled = await cli.run("models", "pull", "hf:demo/support-tiny");
  expect(pulled).toMatchObject({ exitCode: 0 });
  expect(pulled.stderr).toMatch(/licence: apache-2\.0/);
  expect(pulled.stderr).toMatch(/MiB of it here already/);
  const ranges = hub.requests.filter(({ server }) => server === "store");
  expect(ranges.map(({ headers }) => headers.range)).toEqual([`bytes=${had}-`]);
  expect((await cli.run("models", "verify")).exitCode).toBe(0);
});

test("what was pulled is served by its reference, without the hub, and stays while it is served", async () => {
  await cli.json("models", "pull", "hf:demo/support-tiny");
  await hub.close();
  const settings = await writeSettings({
    embedded: { id: "pulled", model: "hf:demo/support-tiny" },
  });
  const env = { SWITCHYARD_CONFIG: settings.path, HF_ENDPOINT: hub.endpoint };
  const server = await startServer({ dataDir, env });
  const { imports } = await cli.json<{ imports: { digest: string; source: string }[] }>(
    "models",
    "list",
  );
  expect(imports).toMatchObject([{ source: expect.stringContaining("hf:demo/support-tiny@") }]);
  const kept = await cli.run("models", "remove", "hf:demo/support-tiny", "--yes");
  expect(kept.exitCode).toBe(1);
  expect(kept.stderr).toContain("Stop that server first.");
  await server.stop();
  await settings.remove();
  expect((await cli.run("models", "remove", "hf:demo/support-tiny", "--yes")).exitCode).toBe(0);
  expect(await cli.json("models", "list")).toEqual({
    imports: [],
    encoders: [],
    sources: [],
    unfinished: [],
  });
});
