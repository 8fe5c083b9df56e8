import { readdir } from "node:fs/promises";
import { getPriority } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { demoFolder, demoShape as shape } from "../__fixtures__/demo-model.ts";
import { startWorker } from "../start-worker.ts";
import { openRecordedPacker } from "./__fixtures__/recorded-packer.ts";
import { digestOfFiles, readAdapterFolder } from "./adapter-source.ts";
import { openPacker, type Packer, type PackerTask } from "./packer.ts";
import { packedBytes } from "./shared-weights.ts";

const workers: Worker[] = [];
let packer: Packer;

function open(): Packer {
  workers.length = 0;
  packer = openPacker({
    startThread: (...given) => {
      const worker = startWorker(...given);
      workers.push(worker);
      return worker;
    },
  });
  return packer;
}
afterEach(() => packer.close());

type PackTask = Extract<PackerTask, { type: "pack" }>;

async function task(rankMax = 64): Promise<PackTask> {
  const files = await readAdapterFolder(join(demoFolder, "adapters/banking-intent"), 1 << 30);
  const memory = new SharedArrayBuffer(4 << 20);
  return { type: "pack", files, digest: "d", base: { shape, rankMax }, memory };
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
  const { adapter } = await open().pack(asked);
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

test("a packer that is closed begins with nothing more, and says so to all", async () => {
  const asked = [await task(), await task(), await task(), await task()];
  const closing = open();
  const packed = asked.map((one) => closing.pack(one).catch((error: unknown) => error));
  await closing.close();
  const gone = expect.objectContaining({ code: "shutting_down" });
  expect(await Promise.all(packed)).toEqual(asked.map(() => gone));
  expect(workers).toHaveLength(2);
  await expect(closing.pack(await task())).rejects.toMatchObject({ code: "shutting_down" });
});

test("a thread that dies fails what it had, and the next task has another", async () => {
  const asked = await task();
  const lost = open().pack(asked);
  const told = expect(lost).rejects.toThrow("packs adapters died");
  await workers[0]?.terminate();
  await told;
  expect((await packer.pack(await task())).adapter.digest).toBe("d");
  expect(workers).toHaveLength(2);
});

test("large adapters leave a thread to small ones, and wait for each other", async () => {
  const begun: string[] = [];
  packer = openRecordedPacker(begun);
  const values = new Float32Array(new SharedArrayBuffer(5 << 22));
  const pair = { a: values, b: values, rank: 1 };
  const mix = (digest: string) => {
    const adapter = { digest: "part", rank: 1, layers: [{ q_proj: pair }] };
    const memory = new SharedArrayBuffer(packedBytes(adapter));
    const parts = [{ adapter, weight: 1 }];
    return packer.mix({ type: "mix", parts, digest, rankMax: 1, memory });
  };
  const small = { ...(await task()), digest: "small" };
  const packed = [mix("first"), mix("second"), packer.pack(small).then(({ adapter }) => adapter)];
  expect(begun).toEqual(["first", "small"]);
  expect((await Promise.all(packed)).map(({ digest }) => digest)).toEqual([
    "first",
    "second",
    "small",
  ]);
  expect(begun).toEqual(["first", "small", "second"]);
});

test("files are told by their digest and by the memory that they take", async () => {
  const { files } = await task();
  const digest = digestOfFiles(files);
  const { memoryBytes, files: back } = await open().identify(files);
  expect(files.weights.length).toBe(0);
  expect(digestOfFiles(back)).toBe(digest);
  expect(await packer.identify(back, digest)).toMatchObject({ digest, memoryBytes });
  const packed = await packer.pack(await task());
  expect(memoryBytes).toBe(packedBytes(packed.adapter));
  expect(digestOfFiles(packed.files)).toBe(digest);
  const broken = () => ({
    config: new Uint8Array(packed.files.config),
    weights: packed.files.weights.slice(0, 100),
  });
  await expect(packer.identify(broken())).rejects.toMatchObject({ code: "invalid_adapter" });
  // Of what nobody asked for it is enough to know that it is something else.
  expect(await packer.identify(broken(), digest)).toMatchObject({ memoryBytes: 0 });
});

test("files that were handed over already are refused, and the thread serves on", async () => {
  const { files } = await task();
  const { files: back } = await open().identify(files);
  await expect(packer.identify(files)).rejects.toThrow(TypeError);
  expect((await packer.identify(back)).digest).toMatch(/^[0-9a-f]{64}$/);
});

test.skipIf(process.platform !== "linux")(
  "its threads have a lower priority than the engine's",
  async () => {
    packer = openPacker();
    // An answer proves that the thread runs.
    await expect(
      packer.identify({ config: new Uint8Array(), weights: new Uint8Array() }),
    ).rejects.toMatchObject({ code: "invalid_adapter" });
    const threads = await readdir("/proc/self/task");
    const priorities = threads.map((thread) => getPriority(Number(thread)));
    expect(priorities.filter((one) => one > getPriority()).length).toBe(1);
  },
);
