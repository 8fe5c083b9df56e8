/** What is incompatible elsewhere (`test/e2e/incompatibilities`), seen by OpenAI's Python client: also where this machine's Python has none. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { count, type Suite, type Test } from "./suite.ts";
import { folderOf, installFromPyPi, lastLine, run } from "./workshop.ts";

export const incompatibilitiesInPython: Suite = {
  name: "incompatibilities-python",
  async run() {
    const folder = await folderOf("incompatibilities-python");
    const { python, version } = await installFromPyPi(folder, ["openai"]);
    const report = join(folder, "report.json");
    const ran = await run(
      [
        process.execPath,
        join(root, "node_modules/vitest/vitest.mjs"),
        ...["run", "test/e2e/incompatibilities", "--testNamePattern", "openai from PyPI"],
        ...["--reporter", "json", "--outputFile", report],
      ],
      { folder: root, env: { PYTHON: python }, timeoutMs: 1_800_000 },
    );
    const { testResults } = JSON.parse(
      await readFile(report, "utf8").catch(() => {
        throw new Error(`vitest wrote no report: ${lastLine(ran.stderr)}`);
      }),
    ) as VitestReport;
    const tests = testResults.flatMap(({ name, message, assertionResults }): Test[] => {
      const about = name.slice(root.length);
      const seen = assertionResults.filter(({ status }) => asked.has(status));
      if (message !== "") return [{ name: about, about, error: message }];
      return seen.map(({ title, status, failureMessages }) => ({
        name: title,
        about,
        error: status === "failed" ? (failureMessages[0] ?? "failed") : undefined,
      }));
    });
    return count(tests, version);
  },
};

type VitestReport = {
  testResults: {
    name: string;
    message: string;
    assertionResults: { title: string; status: string; failureMessages: string[] }[];
  }[];
};

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Others were left out by their name. */
const asked = new Set(["passed", "failed"]);
