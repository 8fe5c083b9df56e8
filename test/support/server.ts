/** The whole product as a user starts it: a process of its own on a free port, with a data folder of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
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
  const program = launch(options.program ?? fromSources, {
    PORT: "0",
    SWITCHYARD_DATA_DIR: dataDir,
    ...options.env,
  });
  const url = await program.said(/ready[^\n]*?(http:\/\/[^\s]+?)\/?\s/i);
  const startMs = performance.now() - startedAt;
  const keys = JSON.parse(readFileSync(join(dataDir, "keys.json"), "utf8")) as {
    adminKey: string;
    apiKey: string;
  };
  return {
    url,
    ...keys,
    dataDir,
    startMs,
    output: program.output,
    async stop() {
      const code = await program.end("SIGTERM");
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true });
      return code;
    },
    async kill() {
      await program.end("SIGKILL");
    },
  };
}

export type RunningGateway = { url: string; stop(): Promise<void> };

/** Starts a gateway by itself, with another process's registry. */
export async function startGatewayAlone(env: Record<string, string>): Promise<RunningGateway> {
  const dataDir = await mkdtemp(join(tmpdir(), "switchyard-gateway-"));
  const program = launch(["--import", "tsx", "gateway/main.ts"], {
    PORT: "0",
    SWITCHYARD_DATA_DIR: dataDir,
    ...env,
  });
  const port = await program.said(/"port":(\d+)\}?,"msg":"the gateway serves"/);
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      await program.end("SIGTERM");
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

export type Program = {
  pid: number;
  output(): string;
  /** What the pattern's group caught, once it was said. @throws Error with the output when it ends before */
  said(pattern: RegExp): Promise<string>;
  end(signal: NodeJS.Signals): Promise<number | null>;
  /** Its exit code, once it has ended by itself. */
  ended(): Promise<number | null>;
};

/** Starts any program of the repository as a process of its own, with nothing of the machine's settings. */
export function launch(argv: readonly string[], env: Record<string, string>): Program {
  const child = spawn(process.execPath, [...argv], {
    cwd: root,
    env: { ...cleanEnv(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const collect = (chunk: Buffer) => {
    output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  return {
    pid: child.pid ?? 0,
    output: () => output,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(output)?.[1];
          if (found !== undefined) resolve(found);
        };
        child.stdout.on("data", look);
        child.stderr.on("data", look);
        child.on("exit", (code) =>
          reject(new Error(`the server ended with ${code} before it was ready:\n${output}`)),
        );
        child.on("error", reject);
      }),
    async end(signal) {
      child.kill(signal);
      return this.ended();
    },
    async ended() {
      if (child.exitCode === null && child.signalCode === null) await once(child, "close");
      return child.exitCode;
    },
  };
}

/** Settings of the machine that runs the tests must not reach the server under test. */
function cleanEnv(): NodeJS.ProcessEnv {
  const removed = /^(SWITCHYARD_|OPENAI_|DATABASE_URL$|REDIS_URL$|HOST$|PORT$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !removed.test(name)));
}
