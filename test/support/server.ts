/** The whole product as a user starts it: a process of its own on a free port, with a data folder of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export type RunningServer = {
  url: string;
  adminKey: string;
  apiKey: string;
  dataDir: string;
  /** Milliseconds from the start of the process until it said that it was ready. */
  startMs: number;
  output(): string;
  /** Asks it to drain and end, as Ctrl-C does, and tells its exit code. */
  stop(): Promise<number | null>;
  /** Ends it at once, as a crash or the kernel would. */
  kill(): Promise<void>;
};

export type ServerOptions = {
  /** Kept when given, so that a second start finds it; else made anew and removed by `stop`. */
  dataDir?: string;
  env?: Record<string, string>;
  /** What Node runs; the sources unless told otherwise. */
  program?: readonly string[];
};

const fromSources = ["--import", "tsx", "deploy/all-in-one/main.ts"];
const root = fileURLToPath(new URL("../..", import.meta.url));

/** Starts `npm start`'s program and resolves when it serves. @throws Error with its output when it ends instead */
export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), "switchyard-data-")));
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...(options.program ?? fromSources)], {
    cwd: root,
    env: { ...cleanEnv(), PORT: "0", SWITCHYARD_DATA_DIR: dataDir, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const collect = (chunk: Buffer) => {
    output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);

  const url = await readyUrl(child, () => output);
  const startMs = performance.now() - startedAt;
  const keys = JSON.parse(readFileSync(join(dataDir, "keys.json"), "utf8")) as {
    adminKey: string;
    apiKey: string;
  };
  const end = async (signal: NodeJS.Signals) => {
    const code = child.exitCode ?? (await ended(child, signal));
    if (options.dataDir === undefined && signal !== "SIGKILL")
      await rm(dataDir, { recursive: true, force: true });
    return code;
  };
  return {
    url,
    ...keys,
    dataDir,
    startMs,
    output: () => output,
    stop: () => end("SIGTERM"),
    kill: async () => {
      await end("SIGKILL");
    },
  };
}

/** Settings of the machine that runs the tests must not reach the server under test. */
function cleanEnv(): NodeJS.ProcessEnv {
  const removed = /^(SWITCHYARD_|OPENAI_|DATABASE_URL$|REDIS_URL$|HOST$|PORT$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !removed.test(name)));
}

function readyUrl(child: ChildProcess, output: () => string): Promise<string> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const url = /ready[^\n]*?(http:\/\/[^\s]+)/i.exec(output())?.[1];
      if (url) resolve(url.replace(/\/$/, ""));
    };
    child.stdout?.on("data", look);
    child.on("exit", (code) =>
      reject(new Error(`the server ended with ${code} before it was ready:\n${output()}`)),
    );
    child.on("error", reject);
  });
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve(code));
    child.kill(signal);
  });
}
