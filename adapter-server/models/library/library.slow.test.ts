import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder } from "../../__fixtures__/demo-model.ts";
import { writeTinyEncoder } from "../../__fixtures__/tiny-encoder.ts";
import { importEncoder } from "../../encoder/import-encoder.ts";
import { holdersOf, holdFolder, takeLock } from "./holds.ts";
import { importToLibrary, openForServing } from "./import.ts";
import { inspectModel } from "./inspect.ts";
import { listModels } from "./list.ts";
import { writePulled, writeRevision } from "./pulled.ts";
import { planRemoval, removeModels } from "./remove.ts";
import { importDiskBytes, type Machine } from "./room.ts";
import { readSourceFacts } from "./source-facts.ts";
import { verifyModels } from "./verify.ts";

const base = join(demoFolder, "base");
const commit = "0123456789abcdef0123456789abcdef01234567";
const large: Machine = { memoryBytes: 2 ** 40, freeDiskBytes: async () => 2 ** 40 };
let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "switchyard-library-"));
});
afterAll(() => rm(work, { recursive: true, force: true }));

const newDataDir = () => mkdtemp(join(work, "data-"));

test("an import says what it was made of, how its weights are stored, and that its bytes are right", async () => {
  const dataDir = await newDataDir();
  const { digest, model } = await importToLibrary({ source: base, format: "int8", dataDir });
  const { imports } = await listModels(dataDir);
  expect(imports).toMatchObject([
    { digest, source: base, format: "int8", parameters: 6_951_168, usedBy: [] },
  ]);

  const facts = await inspectModel(digest.slice(0, 8), dataDir);
  expect(facts).toMatchObject({
    name: base,
    architecture: "LlamaForCausalLM",
    contextLength: 2048,
    tokenizer: { type: "BPE", tokens: 4096 },
    hasChatTemplate: true,
    licence: undefined,
  });
  expect(facts.stored?.map(({ group, format }) => `${group} ${format}`)).toEqual([
    "embedding bf16",
    "attention bf16",
    "feed-forward bf16",
    "norms bf16",
  ]);
  const [stored] = facts.imports;
  const parameters = stored?.groups.map(({ group, format, parameters }) => [
    group,
    format,
    parameters,
  ]);
  expect(parameters).toEqual([
    ["embedding", "int8 in blocks of 64", 4096 * 256],
    ["attention", "int8 rows", 1_572_864],
    ["feed-forward", "int8 rows", 4_325_376],
    ["norms", "float32", 17 * 256],
    ["output", "int8 rows", 4096 * 256],
  ]);
  expect(stored?.sizeBytes).toBeGreaterThan(model.dims.vocabSize);
  expect(await verifyModels(undefined, dataDir)).toMatchObject([{ result: "ok", problems: [] }]);
});

test("an import that was made without the library gets its manifest when it is found again", async () => {
  const dataDir = await newDataDir();
  const { model, digest } = await importToLibrary({ source: base, format: "f32", dataDir });
  const manifest = join(model.graphPath, "../manifest.json");
  const written = await readFile(manifest, "utf8");
  await rm(manifest);
  expect(await verifyModels(digest, dataDir)).toMatchObject([{ result: "unknown" }]);
  await importToLibrary({ source: base, format: "f32", dataDir });
  expect(await readFile(manifest, "utf8")).toBe(written);
});

test("a changed byte, a lost file, a strange file and a changed source are all told", async () => {
  const dataDir = await newDataDir();
  const source = await mkdtemp(join(work, "source-"));
  await cp(base, source, { recursive: true });
  const { model, digest } = await importToLibrary({ source, format: "int4", dataDir });
  const weights = join(model.graphPath, "../weights.bin");
  const bytes = await readFile(weights);
  bytes[100_000] = (bytes[100_000] ?? 0) ^ 1;
  await writeFile(weights, bytes);
  await rm(model.graphPath);
  expect(await listModels(dataDir)).toMatchObject({ imports: [] });
  await writeFile(model.graphPath, "short");
  await writeFile(join(model.graphPath, "../strange"), "");
  await writeFile(join(source, "tokenizer.json"), "{}");
  const [verdict] = await verifyModels(digest, dataDir);
  expect(verdict).toMatchObject({ result: "damaged" });
  expect(verdict?.problems).toEqual([
    expect.stringMatching(/^model\.onnx has 5 bytes instead of \d+\.$/),
    "weights.bin has other bytes than it had.",
    "strange does not belong to it.",
    `Its source ${source} has changed since; a server would import it anew.`,
  ]);
});

test("what is larger than memory or disk is told before it is tried", async () => {
  const dataDir = await newDataDir();
  const ask = (machine: Machine, format: "f32" | "int8") =>
    importToLibrary({ source: base, format, dataDir, machine });
  const small = { ...large, memoryBytes: 20 * 2 ** 20 };
  await expect(ask(small, "f32")).rejects.toMatchObject({
    code: "too_large_for_memory",
    message: expect.stringMatching(/about 28\.\d MiB of memory, and this machine has 20\.0 MiB/),
    hint: expect.stringContaining("--format int8"),
  });
  const full = { ...large, freeDiskBytes: async () => 70 * 2 ** 20 };
  await expect(ask(full, "int8")).rejects.toMatchObject({ code: "disk_full" });
  expect(await readdir(dataDir)).toEqual([]);
  await ask({ ...large, memoryBytes: 20 * 2 ** 20 }, "int8");
});

test("the estimate of an import's size is not far from its size", async () => {
  const dataDir = await newDataDir();
  for (const format of ["f32", "int8", "int8-blocks", "int4", "int4-128"] as const) {
    const { digest } = await importToLibrary({ source: base, format, dataDir });
    const { imports } = await listModels(dataDir);
    const written = imports.find((one) => one.digest === digest)?.sizeBytes ?? 0;
    const told = importDiskBytes(await readSourceFacts(base), format);
    expect(told / written, format).toBeGreaterThan(0.95);
    expect(told / written, format).toBeLessThan(1.15);
  }
});

test("an import that was chosen on a larger machine warns on a smaller one", async () => {
  const dataDir = await newDataDir();
  await importToLibrary({ source: base, format: "auto", dataDir, machine: large });
  const facts = await readSourceFacts(base);
  const machine = { ...large, memoryBytes: Math.ceil((facts.parameters ?? 0) * 1.05) };
  const warnings: string[] = [];
  const onWarning = (message: string) => warnings.push(message);
  const opened = await openForServing({
    source: base,
    format: "auto",
    dataDir,
    machine,
    onWarning,
  });
  await opened.release();
  expect(warnings).toEqual([expect.stringContaining("This import takes about")]);
});

test("what an earlier version made of a model goes when this one has its own, unless it is served", async () => {
  const dataDir = await newDataDir();
  const { model, digest } = await importToLibrary({ source: base, format: "int8", dataDir });
  const folder = join(model.graphPath, "..");
  const manifest = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
  const older = async (name: string, facts: object) => {
    const path = join(dataDir, "models", name.repeat(64));
    await cp(folder, path, { recursive: true });
    await writeFile(join(path, "manifest.json"), JSON.stringify({ ...manifest, ...facts }));
    return path;
  };
  await older("a", { importerVersion: undefined });
  const served = await older("b", { importerVersion: 1 });
  const release = await holdFolder(served);
  await older("c", { importerVersion: 1, format: "int4" });
  await older("d", { importerVersion: 1000 });

  await importToLibrary({ source: base, format: "int8", dataDir });
  const left = (await listModels(dataDir)).imports.map((one) => one.digest.slice(0, 2)).sort();
  expect(left).toEqual(["bb", "cc", "dd", digest.slice(0, 2)].sort());
  await release();
});

test("what a server serves is not removed; a mark that a killed process left does not keep it", async () => {
  const dataDir = await newDataDir();
  const { digest, model } = await importToLibrary({ source: base, format: "int8", dataDir });
  const warnings: string[] = [];
  const opened = await openForServing({
    source: base,
    format: "int8",
    dataDir,
    machine: { ...large, memoryBytes: 1000 },
    onWarning: (message) => warnings.push(message),
  });
  expect(warnings).toEqual([expect.stringContaining("takes about")]);
  expect((await listModels(dataDir)).imports[0]?.usedBy).toEqual([`process ${process.pid}`]);
  await expect(planRemoval(digest, dataDir)).rejects.toMatchObject({
    code: "in_use",
    message: expect.stringContaining(`served by process ${process.pid}`),
  });
  expect(await verifyModels(digest, dataDir)).toMatchObject([{ result: "ok" }]);
  await opened.release();

  const folder = join(model.graphPath, "..");
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  const mark = { pid: child.pid, host: hostname() };
  await writeFile(join(folder, "in-use.child"), JSON.stringify(mark));
  await expect(planRemoval(digest, dataDir)).rejects.toMatchObject({ code: "in_use" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  const removal = await planRemoval(digest, dataDir);
  await removeModels(removal);
  expect(await readdir(join(dataDir, "models"))).toEqual([]);
});

test("a mark of another machine counts while it is touched", async () => {
  const folder = await newDataDir();
  const mark = join(folder, "in-use.elsewhere");
  await writeFile(mark, JSON.stringify({ pid: 1, host: "another-machine" }));
  expect(await holdersOf(folder)).toEqual(["process 1 on another-machine"]);
  const old = new Date(Date.now() - 60_000);
  await utimes(mark, old, old);
  expect(await holdersOf(folder)).toEqual([]);
});

test("a lock keeps a second out, and one that was not given back by a dead process is taken over", async () => {
  const path = join(await newDataDir(), "lock");
  const release = await takeLock(path, "it");
  await expect(takeLock(path, "it")).rejects.toMatchObject({ code: "in_use" });
  await release();
  await writeFile(path, JSON.stringify({ pid: 2 ** 22 + 1, host: hostname() }));
  await (await takeLock(path, "it"))();
  // The id of a running process, but not the process that it was.
  await writeFile(
    path,
    JSON.stringify({
      pid: process.pid,
      host: hostname(),
      started: "another boot:1",
    }),
  );
  await (await takeLock(path, "it"))();
});

test("what was pulled is imported by its reference, and goes with its imports", async () => {
  const dataDir = await newDataDir();
  const folder = join(dataDir, "sources/demo--support-tiny", commit);
  await mkdir(folder, { recursive: true });
  await cp(base, folder, { recursive: true });
  await expect(
    importToLibrary({ source: "hf:demo/support-tiny", format: "int8", dataDir }),
  ).rejects.toMatchObject({
    code: "model_not_found",
    message: expect.stringContaining("begun and has not ended"),
    hint: expect.stringContaining("models pull hf:demo/support-tiny"),
  });
  await writePulled(
    {
      repo: "demo/support-tiny",
      commit,
      file: undefined,
      files: [],
      licence: "apache-2.0",
      endpoint: "http://hub",
      pulledAt: "2026-11-21T12:00:00.000Z",
    },
    folder,
  );
  await writeRevision(
    dataDir,
    { repo: "demo/support-tiny", revision: "main", file: undefined },
    commit,
  );

  for (const source of ["hf:demo/support-tiny", `hf:demo/support-tiny@${commit.slice(0, 9)}`]) {
    const { model } = await importToLibrary({ source, format: "int8", dataDir });
    expect(model.shape.trainedAs).toContain("demo/support-tiny");
  }
  await expect(
    importToLibrary({ source: "hf:demo/support-tiny@v2", format: "int8", dataDir }),
  ).rejects.toMatchObject({ message: expect.stringContaining("@0123456789ab") });

  const name = `hf:demo/support-tiny@${commit.slice(0, 12)}`;
  expect(await listModels(dataDir)).toMatchObject({
    imports: [{ source: name }],
    sources: [{ name, revisions: ["main"], licence: "apache-2.0" }],
  });
  expect(await inspectModel("hf:demo/support-tiny", dataDir)).toMatchObject({
    name,
    licence: "apache-2.0",
    imports: [{ format: "int8" }],
  });
  const hold = await holdFolder(
    join(dataDir, "models", (await listModels(dataDir)).imports[0]?.digest ?? ""),
  );
  await expect(planRemoval(name, dataDir)).rejects.toMatchObject({ code: "in_use" });
  await hold();
  const removal = await planRemoval(name, dataDir);
  expect(removal.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^import [0-9a-f]{12} \(int8\)$/),
    name,
  ]);
  await removeModels(removal);
  expect(await listModels(dataDir)).toEqual({
    imports: [],
    encoders: [],
    sources: [],
    unfinished: [],
  });
});

const gguf = fileURLToPath(
  new URL("../../../../shared/fixtures/families/gguf/llama-gqa-q4_0.gguf", import.meta.url),
);
test.skipIf(!existsSync(gguf))("a GGUF file is described by its header, and imported", async () => {
  const dataDir = await newDataDir();
  const { digest } = await importToLibrary({ source: gguf, format: "int8", dataDir });
  const facts = await inspectModel(gguf, dataDir);
  expect(facts).toMatchObject({
    architecture: "llama",
    hasChatTemplate: true,
    tokenizer: { type: "gpt2" },
    imports: [{ digest, format: "int8" }],
  });
  expect(facts.stored).toContainEqual(
    expect.objectContaining({ group: "feed-forward", format: "q4_0" }),
  );
  expect(await verifyModels(digest, dataDir)).toMatchObject([{ result: "ok" }]);
});

test("a folder of the user's is never removed, and what is not here is told with what to do", async () => {
  const dataDir = await newDataDir();
  await expect(planRemoval(base, dataDir)).rejects.toMatchObject({
    hint: "A folder of your own is never removed.",
  });
  await expect(inspectModel("abcd1234", dataDir)).rejects.toMatchObject({
    hint: expect.stringContaining("models list"),
  });
  await expect(
    importToLibrary({ source: "owner/name", format: "int8", dataDir }),
  ).rejects.toMatchObject({ hint: expect.stringContaining("hf:owner/name") });
  await expect(
    importToLibrary({ source: join(base, "config.json"), format: "int8", dataDir }),
  ).rejects.toMatchObject({ message: expect.stringContaining("neither a folder nor a GGUF file") });
});

test.each([
  "hf:",
  "hf:name",
  "hf:../x",
  "hf:a/..",
  "hf:a/b@../main",
  "hf:a/b@main/",
  "hf:a--b/c",
  "hf:a/b/model.bin",
  "hf:a/b/../../x.gguf",
  "hf:a/b@\n",
])("%j is no reference", async (text) => {
  await expect(
    importToLibrary({ source: text, format: "int8", dataDir: work }),
  ).rejects.toMatchObject({ code: "invalid_reference" });
});

test("an encoder is listed, read again, held by who serves it, and removed", async () => {
  const dataDir = await newDataDir();
  const source = join(work, "tiny-encoder");
  await writeTinyEncoder(source);
  const { digest, folder } = await importEncoder(source, { dataDir });
  const { encoders } = await listModels(dataDir);
  expect(encoders).toMatchObject([{ digest, source, usedBy: [] }]);
  expect(encoders[0]?.sizeBytes).toBeGreaterThan(1000);
  const verdicts = () => verifyModels(digest.slice(0, 8), dataDir);
  expect(await verdicts()).toMatchObject([{ type: "encoder", result: "ok", problems: [] }]);
  expect(await verifyModels(undefined, dataDir)).toHaveLength(1);

  const release = await holdFolder(folder);
  expect((await listModels(dataDir)).encoders[0]?.usedBy).toHaveLength(1);
  await expect(planRemoval(digest, dataDir)).rejects.toMatchObject({ code: "in_use" });
  await release();

  await writeFile(join(folder, "tokenizer.json"), JSON.stringify({ other: true }));
  expect(await verdicts()).toMatchObject([{ result: "damaged", problems: [expect.any(String)] }]);
  await removeModels(await planRemoval(digest.slice(0, 8), dataDir));
  expect((await listModels(dataDir)).encoders).toEqual([]);
  expect(existsSync(source)).toBe(true);
});
