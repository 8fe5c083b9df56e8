/**
 * Where foreign clients are installed and run: a folder outside of the repository, kept between runs, into which each suite
 * installs what it needs from npm or PyPI. Nothing of it is part of the product.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = process.env.SWITCHYARD_CLIENTS_FOLDER ?? join(tmpdir(), "switchyard-clients");

/** Why a suite cannot run on this machine, such as a registry that does not answer; it is skipped by that name. */
export class Unavailable extends Error {}

export type Ran = { code: number; stdout: string; stderr: string };
export type RunOptions = {
  folder: string;
  env?: Record<string, string>;
  timeoutMs?: number;
};

/**
 * Runs a program to its end, with nothing of this machine's own keys and addresses.
 * @throws Error for one that does not come to its end in the time for it; it is ended with all that it started
 */
export function run(argv: readonly [string, ...string[]], options: RunOptions): Promise<Ran> {
  const [command, ...args] = argv;
  const { folder, timeoutMs = 600_000 } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: folder,
      env: { ...neutralEnv(), ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own, so that it can be ended together with its own children.
      detached: true,
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    const end = () => endGroup(child.pid);
    process.once("exit", end);
    const timer = setTimeout(() => {
      end();
      const said = lastLine(Buffer.concat([...out, ...err]).toString());
      reject(
        new Error(`${command} ran for ${timeoutMs / 1000} s and was ended; it said last: ${said}`),
      );
    }, timeoutMs);
    const done = () => {
      clearTimeout(timer);
      process.off("exit", end);
    };
    child.on("error", (error) => {
      done();
      reject(error);
    });
    child.on("close", (code) => {
      done();
      resolve({
        code: code ?? 1,
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      });
    });
  });
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** A folder of that name in the workshop. */
export async function folderOf(name: string): Promise<string> {
  const folder = join(root, name);
  await mkdir(folder, { recursive: true });
  return folder;
}

/** Copies a folder of the repository's `test/clients` beside what was installed, where Node looks for packages. */
export async function bring(name: string, folder: string): Promise<void> {
  await cp(fileURLToPath(new URL(`./${name}`, import.meta.url)), folder, { recursive: true });
  await cp(fileURLToPath(new URL("./driver", import.meta.url)), folder, { recursive: true });
}

/**
 * Installs packages from npm, unless they are there.
 * @returns the versions that were installed
 * @throws Unavailable where the registry does not answer
 */
export async function installFromNpm(
  folder: string,
  packages: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  const wanted = JSON.stringify({ private: true, type: "module", dependencies: packages }, null, 2);
  const manifest = join(folder, "package.json");
  if (!(await isText(manifest, wanted)) || !existsSync(join(folder, "node_modules"))) {
    await writeFile(manifest, wanted);
    const { code, stderr } = await run(
      ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"],
      { folder },
    );
    if (code !== 0) {
      await writeFile(manifest, "{}");
      throw new Unavailable(`npm could not install it: ${lastLine(stderr)}`);
    }
  }
  const versions = Object.keys(packages).map(async (name) => {
    const installed = await readFile(join(folder, "node_modules", name, "package.json"), "utf8");
    return [name, (JSON.parse(installed) as { version: string }).version];
  });
  return Object.fromEntries(await Promise.all(versions));
}

/**
 * Installs packages from PyPI into an environment of the suite's own, unless they are there.
 * @returns the environment's Python, and the version of the first package
 * @throws Unavailable where there is no Python, or the registry does not answer
 */
export async function installFromPyPi(
  folder: string,
  packages: readonly [string, ...string[]],
): Promise<{ python: string; version: string }> {
  const python = join(folder, "venv", "bin", "python");
  const stamp = join(folder, "packages.txt");
  const wanted = packages.join("\n");
  if (!(await isText(stamp, wanted)) || !existsSync(python)) {
    const made = await run(["python3", "-m", "venv", "venv"], { folder }).catch(() => undefined);
    if (made?.code !== 0) throw new Unavailable("no python3 with venv");
    const { code, stderr } = await run(
      [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages],
      { folder },
    );
    if (code !== 0) throw new Unavailable(`pip could not install it: ${lastLine(stderr)}`);
    await writeFile(stamp, wanted);
  }
  const name = packages[0].split(/[<>=~[!]/)[0] ?? "";
  const code = `from importlib.metadata import version; print(version("${name}"))`;
  const { stdout } = await run([python, "-c", code], { folder });
  return { python, version: stdout.trim() };
}

/**
 * A package's own repository, tests included, as it lies on PyPI beside what is installed of it.
 * @throws Unavailable where the registry does not answer
 */
export async function sourcesFromPyPi(
  folder: string,
  { python, name, version }: { python: string; name: string; version: string },
): Promise<string> {
  const sources = join(folder, `${name}-${version}`);
  if (existsSync(sources)) return sources;
  const wanted = ["--no-deps", "--no-binary", name, `${name}==${version}`];
  const fetched = await run([python, "-m", "pip", "download", "--quiet", ...wanted], { folder });
  if (fetched.code !== 0) throw new Unavailable(`no sources on PyPI: ${lastLine(fetched.stderr)}`);
  await run(["tar", "-xzf", `${name}-${version}.tar.gz`], { folder });
  return sources;
}

/**
 * A repository that publishes tests or documents: the folder that the variable names, else the newest of GitHub.
 * @throws Unavailable where neither can be had
 */
export async function sourceOf(repository: string, variable: string): Promise<string> {
  const given = process.env[variable];
  if (given) return given;
  const folder = join(await folderOf("sources"), repository.replace("/", "+"));
  if (existsSync(join(folder, ".git"))) return folder;
  const address = `https://github.com/${repository}`;
  const { code } = await run(["git", "clone", "--quiet", "--depth", "1", address, folder], {
    folder: root,
    timeoutMs: 120_000,
  });
  if (code === 0) return folder;
  throw new Unavailable(`${address} cannot be cloned, and ${variable} names no folder with it`);
}

async function isText(path: string, text: string): Promise<boolean> {
  return (await readFile(path, "utf8").catch(() => undefined)) === text;
}

export function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.slice(0, 200) ?? "";
}

function neutralEnv(): NodeJS.ProcessEnv {
  const foreign = /^(OPENAI_|ANTHROPIC_|GOOGLE_|GEMINI_|AWS_|SWITCHYARD_|LANGCHAIN_|LANGSMITH_)/;
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))),
    GIT_TERMINAL_PROMPT: "0",
    NO_COLOR: "1",
  };
}
