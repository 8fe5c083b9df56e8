/** Imports that are cut off, meet each other, or run out of disk: real processes and a real full disk. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { type ImportOptions, importModel } from "./import-model.ts";

const folder = join(demoFolder, "base");
let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "switchyard-import-failures-"));
});
afterAll(() => rm(work, { recursive: true, force: true }));

type Settings = Pick<ImportOptions, "format" | "singleStream">;

/** A process that imports the demo model and prints where its graph is. */
function importElsewhere(cacheDir: string, settings: Settings = { format: "f32" }): ChildProcess {
  const program = `
    const { importModel } = await import(process.argv[1]);
    const [folder, cacheDir, settings] = process.argv.slice(2);
    const { graphPath } = await importModel({ folder, cacheDir, ...JSON.parse(settings) });
    process.stdout.write(graphPath);`;
  const importer = new URL("import-model.ts", import.meta.url).href;
  const args = [
    "--import",
    "tsx",
    "--input-type=module",
    "-e",
    program,
    importer,
    folder,
    cacheDir,
    JSON.stringify(settings),
  ];
  return spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
}

async function outputOf(child: ChildProcess): Promise<{ exitCode: number | null; text: string }> {
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  const [exitCode] = await once(child, "close");
  return { exitCode, text };
}

test("two processes that import one model at once both have it, and there is one", async () => {
  const cacheDir = join(work, "both");
  await mkdir(cacheDir);
  const children = [
    importElsewhere(cacheDir),
    importElsewhere(cacheDir),
    importElsewhere(cacheDir),
  ];
  const outcomes = await Promise.all(children.map(outputOf));
  const names = await readdir(cacheDir);
  expect(names).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/)]);
  const done = { exitCode: 0, text: join(cacheDir, names[0] ?? "", "model.onnx") };
  expect(outcomes).toEqual([done, done, done]);
});

test.each<Settings & { until: string; bytes: number }>([
  { format: "f32", until: "weights.bin", bytes: 1_000_000 },
  // Both kinds of weights are there, and are about to be timed.
  { format: "int8", singleStream: "int4", until: "single-model-int8-cache.onnx", bytes: 1 },
])(
  "an import as $format, with $singleStream, that is killed leaves nothing that looks finished, and the next one works",
  async (row) => {
    const { until, bytes, ...settings } = row;
    const cacheDir = await mkdtemp(join(work, "killed-"));
    const child = importElsewhere(cacheDir, settings);
    const outcome = outputOf(child);
    const isWriting = async () => {
      for (const name of await readdir(cacheDir)) {
        const found = await stat(join(cacheDir, name, until)).catch(() => undefined);
        if (found && found.size >= bytes) return true;
      }
      return false;
    };
    while (child.exitCode === null && !(await isWriting())) await sleep(1);
    child.kill("SIGKILL");
    expect((await outcome).exitCode).toBeNull();
    const [left = "", ...others] = await readdir(cacheDir);
    expect([left, others]).toEqual([expect.stringMatching(/\.tmp$/), []]);

    const again = await importModel({ folder, ...settings, cacheDir });
    expect(await readdir(cacheDir)).toEqual(
      expect.arrayContaining([again.graphPath.split("/").at(-2), left]),
    );
    const hourLater = () => Date.now() + 60 * 60_000;
    await importModel({ folder, ...settings, cacheDir, nowMs: hourLater });
    expect(await readdir(cacheDir)).toEqual([again.graphPath.split("/").at(-2)]);
  },
);

const mounted: string[] = [];
afterAll(() => {
  for (const disk of mounted) execFileSync("umount", [disk]);
});

/** A disk of its own, where the system lets us make one. */
async function smallDisk(): Promise<string | undefined> {
  const disk = await mkdtemp(join(work, "disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  mounted.push(disk);
  return disk;
}

test("a disk that is full, at whatever step, is said so, and nothing is left behind", async ({
  skip,
}) => {
  const disk = await smallDisk();
  if (disk === undefined) return skip("needs the right to mount a tmpfs");
  const cacheDir = join(disk, "models");
  const outcomes: string[] = [];
  for (
    let kilobytes = 1_000;
    outcomes.at(-1) !== "imported";
    kilobytes = Math.ceil(kilobytes * 1.15)
  ) {
    execFileSync("mount", ["-o", `remount,size=${kilobytes}k`, disk]);
    const outcome = await importModel({ folder, format: "int8", cacheDir }).then(
      () => "imported",
      (error) => error.code ?? String(error),
    );
    outcomes.push(outcome);
    if (outcome !== "imported") expect(await readdir(cacheDir)).toEqual([]);
  }
  expect(new Set(outcomes)).toEqual(new Set(["storage_full", "imported"]));
  expect(outcomes.length).toBeGreaterThan(10);
});
