/** Files come into memory that was used before, and what is not there to be kept is not. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { digestOfFiles, readAdapterFolder } from "./adapter-source.ts";
import { FileMemory } from "./file-memory.ts";
import { openPacker } from "./packer.ts";

const names = ["banking-intent", "tone-formal", "support-triage", "banking-intent"];
const folderOf = (name: string) => join(demoFolder, "adapters", name);

test("several adapters come through one buffer, to a packer's thread and back, each as it is", async () => {
  const memory = new FileMemory();
  const packer = openPacker();
  for (const name of names) {
    const alone = await readAdapterFolder(folderOf(name), 1 << 30);
    const read = await readAdapterFolder(folderOf(name), 1 << 30, memory);
    const { digest, files } = await packer.identify(read);
    expect(digest).toBe(digestOfFiles(alone));
    const before = memory.keptBytes;
    // What went to the thread is no longer here.
    memory.give(read.weights);
    expect(memory.keptBytes).toBe(before);
    memory.give(files.weights);
    expect(memory.keptBytes).toBe(before + files.weights.buffer.byteLength);
  }
  const before = memory.keptBytes;
  const again = await readAdapterFolder(folderOf("banking-intent"), 1 << 30, memory);
  expect(memory.keptBytes).toBe(before - again.weights.buffer.byteLength);
  await packer.close();
});

test("what is kept is bounded, and small files are not kept", () => {
  const memory = new FileMemory(1 << 20);
  const [one, two] = [memory.take(700_000), memory.take(700_000)];
  expect(one.buffer).not.toBe(two.buffer);
  memory.give(one);
  memory.give(two);
  expect(memory.keptBytes).toBe(two.buffer.byteLength);
  expect(memory.take(700_001).buffer).toBe(two.buffer);
  memory.give(memory.take(100));
  expect(memory.keptBytes).toBe(0);
});
