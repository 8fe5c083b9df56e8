/**
 * The tests that OpenAI's own SDKs are checked with, one file for each resource, of those resources that Switchyard serves.
 * They are written for a mock that answers anything, so they insist on keys and ids of their own: the door before the
 * product puts real ones in their place.
 */
import { existsSync } from "node:fs";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Aliases } from "./door.ts";
import { makeIds } from "./fixture-ids.ts";
import type { Stage } from "./stage.ts";
import { count, type Suite, type Test, versionIn } from "./suite.ts";
import {
  folderOf,
  installFromNpm,
  installFromPyPi,
  lastLine,
  run,
  sourceOf,
  sourcesFromPyPi,
} from "./workshop.ts";

/** By their folders and files in both suites. */
const served = [
  "audio",
  "batches",
  "chat",
  "completions",
  "conversations",
  "embeddings",
  "files",
  "images",
  "models",
  "moderations",
  "responses",
  "uploads",
  "admin/organization/usage",
];

export const openAiNodeTests: Suite = {
  name: "openai-node-tests",
  async run(stage) {
    const source = await sourceOf("openai/openai-node", "OPENAI_NODE_SOURCE");
    const folder = await folderOf("openai-node-tests");
    await installFromNpm(folder, { jest: "^30", "@swc/jest": "^0.2", "@swc/core": "^1" });
    for (const part of ["src", "tests", "package.json"]) {
      await cp(join(source, part), join(folder, "repository", part), { recursive: true });
    }
    await writeFile(join(folder, "jest.config.cjs"), jestConfig);
    const jest = join(folder, "node_modules/jest/bin/jest.js");
    const report = join(folder, "report.json");
    const ran = await withAliases(stage, () =>
      run(
        [
          process.execPath,
          jest,
          ...["--config", "jest.config.cjs", "--json", "--outputFile", report, "--runInBand"],
          ...served.map((resource) => `tests/api-resources/${resource}(/|\\.)`),
        ],
        { folder, env: { TEST_API_BASE_URL: `${stage.url}/v1` } },
      ),
    );
    const results = JSON.parse(await readFile(report, "utf8")) as JestReport;
    const tests = results.testResults.flatMap(({ name, message, assertionResults }): Test[] => {
      const about = name.split("/api-resources/").at(-1)?.replace(".test.ts", "") ?? name;
      if (assertionResults.length === 0) {
        return [{ name: about, about, error: message || lastLine(ran.stderr) }];
      }
      return assertionResults.map(({ fullName, status, failureMessages }) => ({
        name: fullName,
        about,
        error: status === "failed" ? (failureMessages[0] ?? "failed") : undefined,
      }));
    });
    return count(tests, await versionIn(source, "package.json"));
  },
};

export const openAiPythonTests: Suite = {
  name: "openai-python-tests",
  async run(stage) {
    const folder = await folderOf("openai-python-tests");
    const { python, version } = await installFromPyPi(folder, [
      "openai[aiohttp]",
      ..."pytest pytest-asyncio pytest-xdist respx dirty-equals nest_asyncio time-machine rich".split(
        " ",
      ),
    ]);
    const repository = await sourcesFromPyPi(folder, { python, name: "openai", version });
    const files = served
      .flatMap((resource) => {
        const [name = "", ...above] = resource.split("/").reverse();
        const place = ["tests/api_resources", ...above.reverse()].join("/");
        return [`${place}/test_${name}.py`, `${place}/${name}`];
      })
      .filter((file) => existsSync(join(repository, file)));
    const ran = await withAliases(stage, () =>
      run([python, "-m", "pytest", "-q", "-n", "2", "--junitxml=report.xml", ...files], {
        folder: repository,
        env: {
          TEST_API_BASE_URL: `${stage.url}/v1`,
          PYTHONPATH: join(repository, "src"),
        },
        timeoutMs: 1_800_000,
      }),
    );
    const report = await readFile(join(repository, "report.xml"), "utf8").catch(() => {
      throw new Error(`pytest wrote no report: ${lastLine(ran.stdout)}`);
    });
    return count(readJunit(report), version);
  },
};

type JestReport = {
  testResults: {
    name: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
};

const jestConfig = `module.exports = {
  rootDir: "repository",
  testEnvironment: "node",
  transform: { "^.+\\\\.(t|j)sx?$": ["@swc/jest", {}] },
  moduleNameMapper: { "^openai$": "<rootDir>/src/index.ts", "^openai/(.*)$": "<rootDir>/src/$1" },
};
`;

async function withAliases<T>(stage: Stage, ask: () => Promise<T>): Promise<T> {
  const aliases: Aliases = {
    keys: new Map([
      ["My API Key", stage.apiKey],
      ["My Admin API Key", stage.adminKey],
    ]),
    idFor: makeIds(stage),
  };
  stage.door.aliases = aliases;
  try {
    return await ask();
  } finally {
    stage.door.aliases = undefined;
  }
}

/** Tests that pytest skips itself are in neither count. */
function readJunit(xml: string): Test[] {
  return [...xml.matchAll(/<testcase ([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)].flatMap(
    ([, attributes = "", inside = ""]) => {
      if (inside.includes("<skipped")) return [];
      const attribute = (name: string) =>
        new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
      // As in `tests.api_resources.chat.test_completions.TestAsyncCompletions`.
      const about = attribute("classname").split(".").slice(2, -1).join("/").replace("test_", "");
      const error = /<(?:failure|error) message="([^"]*)"/.exec(inside)?.[1];
      return [{ name: `${about} ${attribute("name")}`, about, error }];
    },
  );
}
