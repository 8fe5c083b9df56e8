/** The `switchyard` command as a person runs it: a process of its own, with nothing but its environment. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";

export type CliEnd = { exitCode: number; stdout: string; stderr: string };

/** `json` fails the test with what the terminal showed when the command does not succeed. */
export type Cli = {
  run(...args: string[]): Promise<CliEnd>;
  json<T>(...args: string[]): Promise<T>;
};

const bin = fileURLToPath(new URL("../../deploy/cli/bin.js", import.meta.url));

/** @param env `SWITCHYARD_*` and `HF_*` alone; the machine's own are not passed on */
export function openCli(env: Record<string, string>): Cli {
  const ours = Object.entries(process.env).filter(
    ([name]) => !/^(SWITCHYARD|OPENAI|HF)_/.test(name),
  );
  const run = (...args: string[]): Promise<CliEnd> =>
    new Promise((resolve) => {
      execFile(
        process.execPath,
        [bin, ...args],
        { env: { ...Object.fromEntries(ours), ...env }, maxBuffer: 64 << 20 },
        (error, stdout, stderr) =>
          resolve({ exitCode: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
      );
    });
  return {
    run,
    async json<T>(...args: string[]) {
      const { exitCode, stdout, stderr } = await run(...args, "--json");
      if (exitCode === 0) return JSON.parse(stdout) as T;
      throw new Error(`switchyard ${args.join(" ")} ended with ${exitCode}:\n${stderr}${stdout}`);
    },
  };
}
