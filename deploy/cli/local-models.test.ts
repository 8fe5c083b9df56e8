import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import pc from "picocolors";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeTinyEncoder } from "../../adapter-server/__fixtures__/tiny-encoder.ts";
import { main } from "../../sdk/cli/main.ts";
import { openLocalModels } from "./local-models.ts";

const base = fileURLToPath(new URL("../demo-model/base", import.meta.url));
let dataDir: string;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-models-"));
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

test("a model is imported, listed, inspected, verified and removed", async () => {
  expect((await run("list")).stdout).toContain("models import FOLDER");
  const imported = await json<{ digest: string; sizeBytes: number }>("import", base);
  const digest = imported.digest.slice(0, 12);

  const list = await run("list");
  expect(list.stdout).toMatch(new RegExp(`${digest}  auto +6,951,168  \\d+\\.\\d MiB`));
  expect(list.stdout).toContain(base);
  expect(await json("list")).toMatchObject({ imports: [{ digest: imported.digest }] });

  const facts = await run("inspect", digest);
  for (const line of [
    /architecture +LlamaForCausalLM/,
    /context +2,048 tokens/,
    /tokenizer +BPE, 4,096 tokens/,
    /chat template +yes/,
    /licence +the folder does not say/,
    /feed-forward +int8 rows +16 +4,325,376 +4\.2 MiB/,
    /format +smoothed int8 rows without measuring, because the model is small/,
    /cost +KL divergence 0\.00\d+ .* over \d+ positions/,
    /qkv +int8 rows, smoothed +8 +\d\.\d+ %/,
  ]) {
    expect(facts.stdout).toMatch(line);
  }

  const verified = await run("verify");
  expect(verified).toMatchObject({ exitCode: 0, stdout: `ok       import ${digest}\n` });
  const refused = await run("remove", digest);
  expect(refused.exitCode).toBe(2);
  expect(refused.stderr).toContain("--yes");
  expect((await answering("no\n", "remove", digest)).exitCode).toBe(1);
  expect((await answering("y\n", "remove", digest)).stdout).toContain("Removed:");
  expect(await json("list")).toEqual({ imports: [], encoders: [], sources: [], unfinished: [] });
});

test("weights for steps of one sequence are asked for, and what became of them is told", async () => {
  const told = /int4-128 for steps of one sequence, (kept|left out): .* \d\.\d ms with them/;
  const asked = ["import", base, "--format", "int8", "--single-stream", "int4-128"];
  expect((await run(...asked)).stdout).toMatch(told);
  const imported = await json<{ digest: string; singleStream: object }>(...asked);
  expect(imported.singleStream).toMatchObject({ format: "int4-128" });
  expect((await run("inspect", imported.digest)).stdout).toMatch(told);
  const wrong = await run("import", base, "--single-stream", "int8");
  expect(wrong).toMatchObject({ exitCode: 2 });
  expect(wrong.stderr).toContain("Theirs are int4, int4-128.");
  expect((await run("remove", imported.digest, "--yes")).exitCode).toBe(0);
});

test("an encoder's export is known as one, checked and kept", async () => {
  const folder = join(dataDir, "encoder");
  await writeTinyEncoder(folder);
  const imported = await json<{ format: string; folder: string }>("import", folder);
  expect(imported).toMatchObject({ format: "onnx", folder: expect.stringContaining("encoders") });
  await writeFile(join(folder, "model.onnx"), "no graph");
  const refused = await run("import", folder);
  expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("no ONNX model") });
});

test("wrong use and failure have their own exit codes, and say what to do", async () => {
  const [format, missing, unknown] = await Promise.all([
    run("import", base, "--format", "int3"),
    run("import", "HuggingFaceTB/SmolLM2-135M"),
    run("inspect", "hf:owner/name", "--json"),
  ]);
  expect(format.exitCode).toBe(2);
  expect(format.stderr).toContain(
    "Formats are auto, f32, int8, int8-a16, int8-blocks, int4, int4-128, mix",
  );
  expect(missing.exitCode).toBe(1);
  expect(missing.stderr).toContain("hf:HuggingFaceTB/SmolLM2-135M");
  expect(unknown.exitCode).toBe(1);
  expect(JSON.parse(unknown.stderr)).toEqual({
    error: {
      code: "model_not_found",
      message: "'hf:owner/name@main' was not pulled.",
      hint: "Get it with 'switchyard models pull hf:owner/name'. Nothing else downloads.",
    },
  });
});

test("what a stranger's file says does not reach the terminal's controls", async () => {
  const folder = await mkdtemp(join(dataDir, "hostile-"));
  await cp(base, folder, { recursive: true });
  await writeFile(join(folder, "LICENSE"), "\u001b[31mfree\u0007 as in beer\n");
  const { stdout, exitCode } = await run("inspect", folder);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/licence +\[31mfree as in beer\n/);
});

test("a client without the servers says that they are not here", async () => {
  const result = await run("list", { installed: false });
  expect(result).toMatchObject({ exitCode: 2 });
  expect(result.stderr).toContain("not installed here");
});

type Result = { exitCode: number; stdout: string; stderr: string };

async function json<T>(...args: string[]): Promise<T> {
  const { exitCode, stdout, stderr } = await run(...args, "--json");
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  return JSON.parse(stdout) as T;
}

function run(...args: (string | { installed: boolean })[]): Promise<Result> {
  return answering(undefined, ...args);
}

/** @param answer what somebody at a terminal types; without it nobody is there */
async function answering(
  answer: string | undefined,
  ...args: (string | { installed: boolean })[]
): Promise<Result> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const stdin = Object.assign(new PassThrough(), { isTTY: answer !== undefined });
  stdin.end(answer ?? "");
  const colours = pc.createColors(false);
  const installed = !args.some((arg) => typeof arg !== "string" && !arg.installed);
  const exitCode = await main(
    ["models", ...args.filter((arg) => typeof arg === "string")],
    installed ? { models: async (env) => openLocalModels(env) } : {},
    {
      env: { SWITCHYARD_DATA_DIR: dataDir },
      stdin,
      stdout,
      stderr,
      colours,
      errorColours: colours,
    },
  );
  const text = (stream: PassThrough) => String(stream.read() ?? "");
  return { exitCode, stdout: text(stdout), stderr: text(stderr) };
}
