/** A program of a benchmark in a process of its own, which prints where it is to be reached as its first line. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export type StartedLane = {
  /** Its first line. */
  said: string;
  pid: number;
  stop(): void;
};

/** @throws Error when it ends before it has said anything */
export function startLane(program: URL, env: Record<string, string>): Promise<StartedLane> {
  const child = spawn(process.execPath, ["--import", "tsx", fileURLToPath(program)], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  return new Promise((resolve, reject) => {
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      const end = output.indexOf("\n");
      if (end === -1) return;
      const said = output.slice(0, end).trim();
      resolve({ said, pid: child.pid ?? 0, stop: () => child.kill() });
    });
    child.once("exit", (code) => reject(new Error(`${program.pathname} ended with ${code}`)));
  });
}
