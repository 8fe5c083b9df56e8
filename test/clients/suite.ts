/** A client or suite that others wrote: how it is brought here, and what came of it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { exceptions } from "./exceptions.ts";
import type { Stage } from "./stage.ts";
import {
  bring,
  folderOf,
  installFromNpm,
  installFromPyPi,
  lastLine,
  type Ran,
  run,
} from "./workshop.ts";

export type Suite = {
  name: string;
  /** @throws Unavailable where this machine cannot have it */
  run(stage: Stage): Promise<SuiteResult>;
};

export type SuiteResult = {
  version: string;
  passed: number;
  failures: { name: string; error: string }[];
  /** What is known not to hold, of which resource or case, and why. */
  excepted: { about: string; reason: string }[];
};

/** A driver of ours, `test/clients/NAME/driver.mjs`, with packages from npm; the first one's version is told. */
export function npmSuite(
  name: string,
  packages: Readonly<Record<string, string>>,
  env: (folder: string) => Record<string, string> = () => ({}),
): Suite {
  return {
    name,
    async run(stage) {
      const folder = await folderOf(name);
      const versions = await installFromNpm(folder, packages);
      await bring(name, folder);
      const ran = await run([process.execPath, "driver.mjs"], {
        folder,
        env: { ...stage.env, ...env(folder) },
      });
      return readChecks(ran, Object.values(versions)[0] ?? "");
    },
  };
}

/** A driver of ours, `test/clients/NAME/driver.py`, with packages from PyPI. */
export function pypiSuite(name: string, packages: readonly [string, ...string[]]): Suite {
  return {
    name,
    async run(stage) {
      const folder = await folderOf(name);
      const { python, version } = await installFromPyPi(folder, packages);
      await bring(name, folder);
      const ran = await run([python, "driver.py"], { folder, env: stage.env });
      return readChecks(ran, version);
    },
  };
}

/** `about` is the resource or case that it tests, which others may test too. */
export type Test = { name: string; about: string; error: string | undefined };

/** What is excepted is not counted as failed; one that holds after all is counted as passed. */
export function count(tests: readonly Test[], version: string): SuiteResult {
  const result: SuiteResult = { version, passed: 0, failures: [], excepted: [] };
  for (const { name, about, error } of tests) {
    const exception = exceptions.find(
      (one) => one.error.test(error ?? "") && (one.tests?.test(name) ?? true),
    );
    if (error === undefined) result.passed++;
    else if (exception) result.excepted.push({ about, reason: exception.reason });
    else result.failures.push({ name, error: error.slice(0, 300) });
  }
  return result;
}

/** One line of JSON for each check; whoever ends before its end has failed. */
function readChecks({ code, stdout, stderr }: Ran, version: string): SuiteResult {
  const checks = stdout
    .split("\n")
    .filter((line) => line.startsWith('{"check"'))
    .map((line) => JSON.parse(line) as { check: string; ok: boolean; error?: string });
  const failures = checks
    .filter(({ ok }) => !ok)
    .map(({ check, error = "" }) => ({ name: check, error }));
  if (code !== 0 || checks.length === 0) {
    failures.push({ name: "runs to its end", error: lastLine(stderr) || `ended with ${code}` });
  }
  return {
    version,
    passed: checks.filter(({ ok }) => ok).length,
    failures,
    excepted: [],
  };
}

/** The version that a package's manifest or a Python project's says. */
export async function versionIn(folder: string, file: string): Promise<string> {
  const text = await readFile(join(folder, file), "utf8");
  return /"?version"?\s*[:=]\s*"([^"]+)"/.exec(text)?.[1] ?? "unknown";
}
