import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { demoFolder, demoShape as shape } from "../__fixtures__/demo-model.ts";
import { startWorker } from "../start-worker.ts";
import { readAdapterFolder } from "./adapter-source.ts";
import { openPacker, type Packer, type PackerTask } from "./packer.ts";

const workers: Worker[] = [];
let packer: Packer;

function open(): Packer {
  workers.length = 0;
  packer = openPacker((...given) => {
    const worker = startWorker(...given);
    workers.push(worker);
    return worker;
  });
  return packer;
}
afterEach(() => packer.close());

async function task(rankMax = 64): Promise<PackerTask> {
  const files = await readAdapterFolder(join(demoFolder, "adapters/banking-intent"), 1 << 30);
  return { type: "pack", files, digest: "d", base: { shape, rankMax } };
}

test("the event loop turns while an adapter is packed, and its weights come in shared memory", async () => {
  const asked = await task();
  let turns = 0;
  let done = false;
  const count = () => {
    turns++;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  const adapter = await open().pack(asked);
  done = true;
  // Packed where it was asked for, it would be there before the second turn.
  expect(turns).toBeGreaterThan(10);
  expect(adapter.layers[0]?.q_proj?.a.buffer).toBeInstanceOf(SharedArrayBuffer);
});

test("what is wrong with an adapter crosses the threads with its facts", async () => {
  await expect(open().pack(await task(2))).rejects.toMatchObject({
    code: "adapter_rank_too_large",
    details: { rankMax: 2 },
  });
});

test("a thread that dies fails what it had, and the next task has another", async () => {
  const asked = await task();
  const lost = open().pack(asked);
  const told = expect(lost).rejects.toThrow("packs adapters died");
  await workers[0]?.terminate();
  await told;
  expect((await packer.pack(asked)).digest).toBe("d");
  expect(workers).toHaveLength(2);
});
