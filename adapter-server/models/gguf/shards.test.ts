/** Models in several files: found by the first, and refused when one is missing or another's. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeEach, expect, test } from "vitest";
import { readGgufFacts } from "../library/gguf-facts.ts";
import { openModelSource } from "../model-source.ts";

const fixtures = fileURLToPath(new URL("__fixtures__", import.meta.url));
const parts = [1, 2, 3].map((no) => `phi3-split-0000${no}-of-00003.gguf`);
const [first = "", second = "", third = ""] = parts;

const folders: string[] = [];
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-shards-"));
  folders.push(folder);
  for (const name of parts) await copyFile(join(fixtures, name), join(folder, name));
});
afterAll(() => Promise.all(folders.map((each) => rm(each, { recursive: true, force: true }))));

test("the first file leads to all tensors, under one name and one digest", async () => {
  const split = await openModelSource(join(folder, first));
  const whole = await openModelSource(join(fixtures, "phi3-q8_0.gguf"));
  expect(split.name).toBe("phi3-split");
  expect(split.spec.dims).toEqual(whole.spec.dims);
  const [weights, expected] = [await split.openWeights(), await whole.openWeights()];
  expect(weights.names().sort()).toEqual(expected.names().sort());
  for (const name of weights.names())
    expect(await weights.read(name)).toEqual(await expected.read(name));
  await Promise.all([weights.close(), expected.close()]);

  const facts = await readGgufFacts(join(folder, first));
  expect(facts).toMatchObject({
    architecture: "phi3",
    vocabSize: 96,
    parameters: (await readGgufFacts(join(fixtures, "phi3-q8_0.gguf"))).parameters,
  });
  const other = await mkdtemp(join(folder, "renamed-"));
  for (const [index, name] of parts.entries()) {
    await copyFile(join(folder, name), join(other, `other-0000${index + 1}-of-00003.gguf`));
  }
  expect((await openModelSource(join(other, "other-00001-of-00003.gguf"))).digest).toBe(
    split.digest,
  );
  await writeFile(
    join(other, "other-00002-of-00003.gguf"),
    await readFile(join(folder, second)).then((bytes) => changedLast(bytes)),
  );
  expect((await openModelSource(join(other, "other-00001-of-00003.gguf"))).digest).not.toBe(
    split.digest,
  );
});

test.each<[string, () => Promise<string>, RegExp]>([
  [
    "one is missing",
    () => rm(join(folder, third)).then(() => first),
    /needs 'phi3-split-00003-of-00003\.gguf'/,
  ],
  [
    "the second is given",
    async () => second,
    /not the first of 3; give 'phi3-split-00001-of-00003/,
  ],
  [
    "two are exchanged",
    () => copyFile(join(folder, third), join(folder, second)).then(() => first),
    /'phi3-split-00002-of-00003\.gguf' is not number 2 of 3/,
  ],
  [
    "another model's is among them",
    () => copyFile(join(fixtures, "gemma3-q8_0.gguf"), join(folder, third)).then(() => first),
    /is not number 3 of 3/,
  ],
  [
    "its name says nothing",
    () => copyFile(join(folder, first), join(folder, "model.gguf")).then(() => "model.gguf"),
    /is one of 3, and its name does not say so/,
  ],
])("refused: %s", async (_what, arrange, message) => {
  const name = await arrange();
  await expect(openModelSource(join(folder, name))).rejects.toThrow(
    expect.objectContaining({ code: "unsupported_model", message: expect.stringMatching(message) }),
  );
});

function changedLast(bytes: Buffer): Buffer {
  const changed = Buffer.from(bytes);
  changed[changed.length - 1]! ^= 1;
  return changed;
}
