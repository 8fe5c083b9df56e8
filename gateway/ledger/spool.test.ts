import { execFile } from "node:child_process";
import { appendFile, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { meteringLimits } from "../metering/config.ts";
import { withFolder } from "../metering/testing.ts";
import { Spool, type SpoolOptions } from "./spool.ts";

test("records come back in order, and are gone once they are committed", () =>
  withSpool(async (spool, folder) => {
    await Promise.all(["1", "2", "3"].map((line) => spool.append(line)));
    await spool.append("4");
    const first = await spool.read(3);
    expect(first?.lines).toEqual(["1", "2", "3"]);
    // Not committed, so it comes again.
    expect((await spool.read(3))?.lines).toEqual(["1", "2", "3"]);
    await first?.commit();
    const second = await spool.read(3);
    expect(second?.lines).toEqual(["4"]);
    await second?.commit();
    expect(await spool.read(3)).toBeUndefined();
    expect(spool.backlogBytes).toBe(0);
    await spool.close();
    expect(await readdir(folder)).toEqual([]);
  }));

test("a segment is closed when it is full and deleted when it is committed", () =>
  withSpool(
    async (spool, folder) => {
      for (let index = 0; index < 10; index++) await spool.append(JSON.stringify("x".repeat(40)));
      expect(await segments(folder)).toHaveLength(5);
      await (await spool.read(4))?.commit();
      await (await spool.read(4))?.commit();
      expect(await segments(folder)).toHaveLength(3);
      await spool.close();
    },
    { segmentBytesMax: 100 },
  ));

test("after a crash in the middle of a line all records before it are there, and new ones follow", () =>
  withFolder(async (folder) => {
    const lines = fc.array(
      fc.jsonValue().map((value) => JSON.stringify(value)),
      { minLength: 1 },
    );
    await fc.assert(
      fc.asyncProperty(lines, fc.nat({ max: 200 }), async (written, cut) => {
        const spool = await Spool.open(options(folder));
        await Promise.all(written.map((line) => spool.append(line)));
        await spool.close();
        const [name = ""] = await segments(folder);
        const bytes = await readFile(join(folder, name));
        const kept = Math.max(0, bytes.length - cut);
        await truncate(join(folder, name), kept);

        const reopened = await Spool.open(options(folder));
        await reopened.append('"after"');
        const whole = bytes.subarray(0, kept).filter((byte) => byte === 10).length;
        expect(await readAll(reopened)).toEqual([...written.slice(0, whole), '"after"']);
        expect(reopened.damagedLines).toBe(0);
        await reopened.close();
      }),
      { numRuns: 30 },
    );
  }));

test("a line that the disk changed is left out and counted", () =>
  withFolder(async (folder) => {
    const spool = await Spool.open(options(folder));
    for (const line of ['{"cost":"1"}', '{"cost":"2"}', '{"cost":"3"}']) await spool.append(line);
    await spool.close();
    const [name = ""] = await segments(folder);
    const text = await readFile(join(folder, name), "utf8");
    await writeFile(join(folder, name), text.replace('"2"', '"7"'));
    const reopened = await Spool.open(options(folder));
    expect(await readAll(reopened)).toEqual(['{"cost":"1"}', '{"cost":"3"}']);
    expect(reopened.damagedLines).toBe(1);
    await reopened.close();
  }));

test("a folder has one owner; the lock of a process that is gone does not count", () =>
  withFolder(async (folder) => {
    const first = await Spool.open(options(folder));
    await expect(Spool.open(options(folder))).rejects.toThrow("belongs to a running process");
    await first.close();
    const stale = [
      { pid: 4_194_305, host: hostname() },
      // The pid lives, but is another process than the one that wrote this.
      { pid: process.pid, host: hostname(), started: "an earlier boot:1" },
    ];
    for (const owner of stale) {
      await writeFile(join(folder, "lock"), JSON.stringify(owner));
      await (await Spool.open(options(folder))).close();
    }
    await appendFile(join(folder, "lock"), JSON.stringify({ pid: 1, host: "another-machine" }));
    await expect(Spool.open(options(folder))).rejects.toThrow("another-machine");
  }));

test("requests are refused while the disk is nearly full, and taken again when it is not", () =>
  withFolder(async (folder) => {
    let free = 1 << 30;
    const spool = await Spool.open({
      ...options(folder, { diskCheckMs: 5 }),
      freeBytes: async () => free,
    });
    spool.ensureWritable();
    free = 1 << 20;
    await eventually(() => expect(() => spool.ensureWritable()).toThrow("takes none"));
    await spool.append('"what was under way is still kept"');
    free = 1 << 30;
    await eventually(() => spool.ensureWritable());
    await spool.close();
  }));

test("too much that waits for the database refuses requests too", () =>
  withSpool(
    async (spool) => {
      await spool.append('"more than ten bytes"');
      await eventually(() => expect(() => spool.ensureWritable()).toThrow("wait for the database"));
      await (await spool.read(1))?.commit();
      await eventually(() => spool.ensureWritable());
      await spool.close();
    },
    { spoolBytesMax: 10, diskCheckMs: 5 },
  ));

test("a disk that refuses a write loses nothing that was acknowledged, and is told as storage_full", () =>
  withFolder(async (folder) => {
    // The shell's limit on file size makes write(2) fail as a full disk does: after some bytes.
    const script = `
      import { Spool } from ${JSON.stringify(fileURLToPath(new URL("spool.ts", import.meta.url)))};
      import { meteringLimits } from ${JSON.stringify(fileURLToPath(new URL("../metering/config.ts", import.meta.url)))};
      const spool = await Spool.open({ folder: ${JSON.stringify(folder)}, limits: meteringLimits.parse({ diskCheckMs: 60000 }) });
      for (let index = 0; index < 1000; index++) {
        try {
          await spool.append(JSON.stringify({ index, text: "x".repeat(1000) }));
          console.log(index);
        } catch (error) {
          console.log(error.code);
          try { spool.ensureWritable(); } catch (refused) { console.log(refused.code); }
          break;
        }
      }
      process.exit(0);`;
    const { stdout } = await promisify(execFile)("bash", [
      "-c",
      'ulimit -f 100; exec "$0" --import tsx --input-type=module -e "$1"',
      process.execPath,
      script,
    ]);
    const told = stdout.trim().split("\n");
    expect(told.slice(-2)).toEqual(["storage_full", "storage_full"]);
    const spool = await Spool.open(options(folder));
    const kept = (await readAll(spool)).map((line) => String(JSON.parse(line).index));
    expect(kept).toEqual(told.slice(0, -2));
    expect(kept.length).toBeGreaterThan(10);
    await spool.close();
  }));

async function withSpool(
  use: (spool: Spool, folder: string) => Promise<void>,
  limits: Partial<SpoolOptions["limits"]> = {},
) {
  await withFolder(async (folder) => use(await Spool.open(options(folder, limits)), folder));
}

function options(folder: string, limits: Partial<SpoolOptions["limits"]> = {}): SpoolOptions {
  return { folder, limits: meteringLimits.parse(limits) };
}

async function readAll(spool: Spool): Promise<string[]> {
  const lines: string[] = [];
  for (let batch = await spool.read(7); batch; batch = await spool.read(7)) {
    lines.push(...batch.lines);
    await batch.commit();
  }
  return lines;
}

async function segments(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith(".log"));
}

async function eventually(check: () => void): Promise<void> {
  for (;;) {
    try {
      return check();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}
