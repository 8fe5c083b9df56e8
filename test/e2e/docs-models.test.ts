/** Every command of `docs/models.md` runs as it stands; an emulator stands where the hub would be. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startHubEmulator } from "../emulators/hub.ts";
import { openCli } from "../support/cli.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const base = join(root, "deploy/demo-model/base");

let dataDir: string;
let hub: Awaited<ReturnType<typeof startHubEmulator>>;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-docs-"));
  const names = await readdir(base);
  const files = await Promise.all(
    names.map(async (name): Promise<[string, Buffer]> => [name, await readFile(join(base, name))]),
  );
  const repo = { files: Object.fromEntries(files) };
  hub = await startHubEmulator({ repos: { "HuggingFaceTB/SmolLM2-135M-Instruct": repo } });
});
afterAll(async () => {
  await hub.close();
  await rm(dataDir, { recursive: true, force: true });
});

test("the commands of docs/models.md run in their order, and leave nothing", async () => {
  const page = await readFile(join(root, "docs/models.md"), "utf8");
  const commands = [...page.matchAll(/^ {4}npx switchyard (.+)$/gm)].map(([, text = ""]) => text);
  expect(commands.length).toBeGreaterThan(7);
  const cli = openCli({ SWITCHYARD_DATA_DIR: dataDir, HF_ENDPOINT: hub.endpoint });
  for (const command of commands) {
    const { exitCode, stderr } = await cli.run(...command.split(" "));
    expect({ command, exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({
      command,
      exitCode: 0,
      stderr: "",
    });
  }
  const left = await cli.json("models", "list");
  expect(left).toEqual({ imports: [], encoders: [], sources: [], unfinished: [] });
});
