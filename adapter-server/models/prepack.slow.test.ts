/** What the runtime makes of stored packed weights: maps those that are its own, ignores another processor's. */
import { cp, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder, largestDifference } from "../__fixtures__/demo-model.ts";
import { createRunner } from "../engine/model-runner.ts";
import { graphFileName } from "./graph-files.ts";
import { type ImportedModel, importModel, type ModelFormat } from "./import-model.ts";
import { externalDataOf } from "./onnx-proto.ts";

let cacheDir: string;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-prepack-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

test.for<ModelFormat>(["f32", "int8", "int4"])(
  "packed weights of %s are used where they are this processor's, and no others",
  async (format, { skip }) => {
    const model = await importModel({ folder: `${demoFolder}/base`, format, cacheDir });
    const entries = await packedEntries(dirname(model.graphPath));
    skip(entries.length === 0, "the runtime packs no weights of this format on this processor");
    expect(entries.length).toBeGreaterThan(30);
    const expected = await logitsOf(model, dirname(model.graphPath));
    const own = await spoiled(model, (graph) => graph);
    // Mapped as they are: so it is these bytes that are computed with, and `models verify` that vouches for them.
    expect(largestDifference(await logitsOf(model, own), expected)).not.toBeLessThan(1);
    const foreign = await spoiled(model, withOtherHashes);
    expect(await logitsOf(model, foreign)).toEqual(expected);
  },
);

/** A copy whose packed weights are rubbish, as another processor's would be. */
async function spoiled(model: ImportedModel, change: (graph: Buffer) => Buffer): Promise<string> {
  const folder = await mkdtemp(join(cacheDir, "spoiled-"));
  await cp(dirname(model.graphPath), folder, { recursive: true });
  const weights = await open(join(folder, "weights.bin"), "r+");
  for (const value of await packedEntries(folder)) {
    for (const place of value.split("|").slice(1)) {
      const [offset = 0, length = 0] = place.split(";").map(Number);
      await weights.write(Buffer.alloc(length, 0x3f), 0, length, offset);
    }
  }
  await weights.close();
  for (const name of (await readdir(folder)).filter((one) => one.endsWith(".onnx"))) {
    await writeFile(join(folder, name), change(await readFile(join(folder, name))));
  }
  return folder;
}

/** The hash of what a kernel packed stands between its name and the places. */
function withOtherHashes(graph: Buffer): Buffer {
  const text = graph.toString("latin1");
  const changed = text.replaceAll(
    /(\w+\+)(\d+)(?=\|\d+;)/g,
    (_, kernel: string, hash: string) =>
      kernel + hash.replaceAll(/\d/g, (digit) => String((Number(digit) + 1) % 10)),
  );
  expect(changed).not.toBe(text);
  return Buffer.from(changed, "latin1");
}

async function packedEntries(folder: string): Promise<string[]> {
  const graph = graphFileName({ adapters: "none", keyValues: "f32", weights: "main" });
  const entries = [...externalDataOf(await readFile(join(folder, graph))).values()].flat();
  return entries.filter(({ key }) => key.startsWith("prepacked_")).map(({ value }) => value);
}

async function logitsOf(model: ImportedModel, folder: string): Promise<Float32Array> {
  const runner = await createRunner({
    model: { ...model, graphPath: join(folder, "model.onnx") },
    blocks: 4,
    slots: 1,
    rankMax: 8,
    threads: 2,
  });
  const row = {
    sequenceId: 1,
    tokens: [5, 9, 77, 200],
    position: 0,
    blocks: [1],
    slot: 0,
    samples: 1,
  };
  const [logits] = await runner.run([], [row]);
  const copy = logits!.slice();
  await runner.close();
  return copy;
}
