import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { demoFolder } from "../../__fixtures__/demo-model.ts";
import { importModel, type ModelFormat } from "../import-model.ts";
import { readReport } from "./report.ts";

const folder = `${demoFolder}/base`;
let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-plan-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

async function reportOf(format: ModelFormat, memoryBytesMax?: number) {
  const model = await importModel({
    folder,
    format,
    cacheDir: join(cacheDir, String(memoryBytesMax)),
    ...(memoryBytesMax !== undefined && { memoryBytesMax }),
  });
  return { model, report: await readReport(dirname(model.graphPath)) };
}

describe("what an import's rounding costs is told", () => {
  test.each<[ModelFormat, number]>([
    ["int8", 0.003],
    ["int8-a16", 0.002],
    ["int8-blocks", 0.003],
    ["int4", 0.1],
    ["mix", 0.006],
  ])("as %s, and is less than a KL divergence of %f", async (format, klMax) => {
    const { report } = await reportOf(format);
    const { cost, matrices = [] } = report ?? {};
    expect(cost?.positions).toBeGreaterThan(100);
    expect(cost?.klMean).toBeLessThan(klMax);
    expect(cost?.klMean).toBeGreaterThan(0);
    expect(cost?.top1).toBeGreaterThan(format === "int4" ? 0.8 : 0.9);
    expect(matrices).toHaveLength(8 * 4 + 1);
    expect(Math.min(...matrices.map(({ error }) => error))).toBeGreaterThan(0);
  });

  test("and of float32 there is nothing to tell", async () => {
    expect((await reportOf("f32")).report).toBeUndefined();
  });
});

test("a mix is chosen among candidates that were timed, and says why", async () => {
  const { report } = await reportOf("mix");
  const [chosen, ...others] = report?.candidates ?? [];
  expect(report?.reason).toContain(`${chosen?.name}, because it takes least time`);
  expect(others.map(({ name }) => name)).toHaveLength(3);
  for (const { relativeTime, error } of others) {
    const slower = relativeTime > (chosen?.relativeTime ?? 0) * 0.95;
    expect(slower || error > 0.0125).toBe(true);
  }
  expect(report?.speeds.flatMap(({ ms }) => ms).every((ms) => ms > 0 && ms < 1000)).toBe(true);
});

test("auto decides once: a later start finds the same import and the same name for its numbers", async () => {
  const first = (await reportOf("auto")).model;
  const written = await stat(first.graphPath);
  const again = (await reportOf("auto")).model;
  expect(again).toEqual(first);
  expect((await stat(again.graphPath)).mtimeMs).toBe(written.mtimeMs);
  expect(first.numerics).toMatch(/^auto-[0-9a-f]{8}$/);
});

test("auto measures nothing of a small model, and takes 4 bits where 8 do not fit", async () => {
  const { report } = await reportOf("auto");
  expect(report).toMatchObject({ recipe: { logits: "smooth" }, speeds: [], candidates: [] });
  expect(report?.reason).toContain("the model is small");
  const tight = await reportOf("auto", 4e6);
  expect(tight.report).toMatchObject({ recipe: { logits: "block8x64" } });
  expect(tight.report?.recipe.layers[0]).toMatchObject({ qkv: "block8x64", down: "block4x32" });
});
