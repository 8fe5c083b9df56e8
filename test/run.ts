/** `npm test`: every test that this machine can run, and by name what it could not run and why. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { optionalParts } from "./support/optional-parts.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "switchyard-tests-"));
const report = join(folder, "report.json");

const parts = await optionalParts();
for (const part of parts)
  console.log(`${part.found ? "with   " : "without"} ${part.name}: ${part.detail}`);

const code = await run("vitest", [
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${report}`,
  ...process.argv.slice(2),
]);
const results = JSON.parse(await readFile(report, "utf8")) as VitestReport;
await rm(folder, { recursive: true, force: true });

for (const name of skippedTests(results)) console.log(`skipped ${name}`);
// A file that fails to load has no tests in it, and is a failure all the same.
const brokenFiles = results.testResults.filter(
  (file) => file.status === "failed" && file.assertionResults.length === 0,
).length;
const failed = results.numFailedTests + brokenFiles;
const skipped = results.numPendingTests + results.numTodoTests;
console.log(
  `${results.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`,
);
process.exitCode = code === 0 && failed === 0 ? 0 : 1;

type VitestReport = {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: {
    name: string;
    status: string;
    assertionResults: { fullName: string; status: string }[];
  }[];
};

function skippedTests(results: VitestReport): string[] {
  return results.testResults.flatMap((file) =>
    file.assertionResults
      .filter(({ status }) => status === "pending" || status === "skipped" || status === "todo")
      .map(({ fullName }) => `${file.name.replace(root, "")}: ${fullName}`),
  );
}

function run(command: string, args: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(root, "node_modules/.bin", command), args, {
      cwd: root,
      stdio: "inherit",
    });
    child.on("error", reject);
    child.on("close", (status) => resolve(status ?? 1));
  });
}
