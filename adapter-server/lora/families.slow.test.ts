/** Every adapter of the shared fixtures, valid, odd and hostile, loaded as an operator loads it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type DemoRunner, openDemoRunner } from "../__fixtures__/demo-model.ts";
import { expectGoldens, type GoldenCase } from "../__fixtures__/goldens.ts";
import { storeLimits } from "../__fixtures__/store-limits.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { AdapterFileCache } from "./adapter-files.ts";
import { AdapterStore } from "./adapter-store.ts";
import { openPacker, type Packer } from "./packer.ts";

const families = fileURLToPath(new URL("../../../shared/fixtures/families", import.meta.url));
const missing = !existsSync(families);
const bases = ["llama-gqa", "qwen2", "qwen3", "mistral"];

type Goldens = { cases: GoldenCase[] } | { same_as: string };
type Expectation = {
  base: string;
  serve: "exact" | "refuse";
  also_ok?: ("exact" | "refuse")[];
  goldens?: Goldens;
  goldens_if_supported?: Goldens;
};

let folder: string;
let packer: Packer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "adapter-families-"));
  packer = openPacker();
});
afterAll(async () => {
  await packer.close();
  await rm(folder, { recursive: true, force: true });
});

describe.skipIf(missing)("adapters of the fixtures (skipped without ../shared)", () => {
  test.each(bases)(
    "for %s are computed exactly or refused by name, as expected, and a refused one leaves nothing behind",
    async (base) => {
      const demo = await openDemoRunner("f32", join(folder, "imports"), {
        folder: join(families, "models", base),
        rankMax: 64,
      });
      const cases = casesOf(`models/${base}`);
      for (const name of cases) await expectOutcome(name, demo);
      expect(cases.length).toBeGreaterThan(5);
      await demo.runner.close();
    },
  );
});

async function expectOutcome(name: string, demo: DemoRunner): Promise<void> {
  const expected = readExpectation(name);
  const outcomes = isDora(name) ? ["exact"] : [expected.serve, ...(expected.also_ok ?? [])];
  const disk = join(folder, "disk");
  const files = await AdapterFileCache.open(disk, 1 << 30);
  const known = new Map<string, PackedAdapter>();
  const { dims } = demo.model;
  const store = new AdapterStore({
    shape: demo.model.shape,
    checkpoint: { path: demo.model.source, digest: demo.model.baseDigest },
    packer,
    engine: {
      facts: { dims, blocks: 2, blockSize: 16, slots: 1, rankMax: 64 },
      loadAdapter: async (adapter) => void known.set(adapter.digest, adapter),
      unloadAdapter: async (digest) => void known.delete(digest),
      pinAdapter: () => {},
    },
    files,
    ...storeLimits,
  });
  // A copy, so that whatever a hostile one writes beside itself is seen.
  const path = join(folder, "case");
  await rm(path, { recursive: true, force: true });
  const input = join(families, name, "adapter");
  await cp(existsSync(input) ? input : join(families, name), path, { recursive: true });
  const before = await readdir(path);
  try {
    const { digest } = await store.loadNamed({ name: "a", path, replace: false, by: "test" });
    expect(outcomes, name).toContain("exact");
    demo.runner.loadSlot(1, known.get(digest)!);
    await expectGoldens(demo, goldensOf(expected), 1);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    expect(outcomes, `${name}: ${error.message}`).toContain("refuse");
    expect([400, 404], name).toContain(error.status);
    expect(store.names()).toEqual([]);
    expect(store.stats()).toMatchObject({ hostBytes: 0, hostDigests: [] });
    expect(known.size).toBe(0);
    expect(await readdir(disk), name).toEqual([]);
  }
  expect(await readdir(path)).toEqual(before);
  await rm(disk, { recursive: true, force: true });
}

function casesOf(base: string): string[] {
  const broken = readdirSync(join(families, "broken")).map((name) => `broken/${name}`);
  const adapters = readdirSync(join(families, "adapters")).flatMap((model) =>
    readdirSync(join(families, "adapters", model)).map((name) => `adapters/${model}/${name}`),
  );
  return [...broken, ...adapters].filter(
    (name) =>
      existsSync(join(families, name, "expect.json")) && readExpectation(name).base === base,
  );
}

/** The collection is for servers that know plain LoRA alone; it has goldens for those that serve more. */
function isDora(name: string): boolean {
  return name === "adapters/llama-gqa/dora";
}

function goldensOf({ goldens, goldens_if_supported }: Expectation): GoldenCase[] {
  const found = goldens ?? goldens_if_supported;
  if (!found) throw new Error("the case has no goldens");
  return "same_as" in found ? goldensOf(readExpectation(found.same_as)) : found.cases;
}

function readExpectation(name: string): Expectation {
  return JSON.parse(readFileSync(join(families, name, "expect.json"), "utf8"));
}
