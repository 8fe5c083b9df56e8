/** `switchyard engine simulate`, as it is typed. */
import { PassThrough } from "node:stream";
import pc from "picocolors";
import { expect, test } from "vitest";
import type { SimulationReport } from "../../sdk/cli/engine-simulation.ts";
import { main } from "../../sdk/cli/main.ts";
import { runSimulation } from "./simulate.ts";

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const colours = pc.createColors(false);
  const stdin = new PassThrough().end();
  const terminal = { env: {}, stdin, stdout, stderr, colours, errorColours: colours };
  const exitCode = await main(
    ["engine", "simulate", ...args],
    { simulate: runSimulation },
    terminal,
  );
  const text = (stream: PassThrough) => String(stream.read() ?? "");
  return { exitCode, stdout: text(stdout), stderr: text(stderr) };
}

const short = ["--seconds", "5", "--prompt", "20", "--output", "~10"];

test("a report has the facts, a table of who waited how long, and how full it was", async () => {
  const { exitCode, stdout } = await run(...short, "--adapters", "20", "--tenants", "2");
  expect(exitCode).toBe(0);
  for (const line of [
    /^requests +\d+$/m,
    /^tokens\/s +\d+ of answers · \d+ of prompts/m,
    /^WHO +REQUESTS +REFUSED +TOKENS\/S +WAIT p50 +p95 +FIRST TOKEN p50/m,
    /^all +\d+ +0 +\d+ +\d+ ms/m,
    /^tenant-2 +\d+/m,
    /^the 8 hottest adapters +\d+/m,
    /^running +[▁-█ ]{60} at most \d/m,
  ]) {
    expect(stdout).toMatch(line);
  }
});

test("options reach the engine, and programs read the report as JSON", async () => {
  const found = async (...args: string[]): Promise<SimulationReport> => {
    const { stdout, stderr } = await run("--json", ...short, ...args);
    expect(stderr).toBe("");
    return JSON.parse(stdout) as SimulationReport;
  };
  const [usual, dear, shared, alone] = await Promise.all([
    found(),
    found("--step-ms", "50"),
    found("--shared", "160"),
    found("--shared", "160", "--no-prefix-cache"),
  ]);
  expect(usual.requests).toBeGreaterThan(5);
  expect(dear.groups[0]?.interTokenMs?.p50).toBeGreaterThan(50);
  expect(shared.prefixHitShare).toBeGreaterThan(0.5);
  expect(alone.prefixHitShare).toBe(0);
});

test("help shows every option with its default, and wrong use is told", async () => {
  const help = await run("--help");
  expect(help.exitCode).toBe(0);
  expect(help.stdout).toMatch(/--prompt <tokens> .*\(default: 50-400\)/s);
  expect(help.stdout).toContain("Examples:");
  expect(help.stdout).toContain("--no-prefix-cache");
  for (const args of [
    ["--prompt", "5-1"],
    ["--rate", "0"],
    ["--zipf", "-1"],
    ["--seconds", "x"],
  ]) {
    expect((await run(...args)).exitCode).toBe(2);
  }
  const narrow = await run("--step-tokens", "8");
  expect(narrow.exitCode).toBe(2);
  expect(narrow.stderr).toContain("must be at least sequencesMax");
});
