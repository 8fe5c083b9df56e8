/** Runs commands of this package one after the other, shows the output of those that fail, and sums up. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export type Step = {
  name: string;
  command: readonly [string, ...string[]];
  env?: Record<string, string>;
};

const root = fileURLToPath(new URL("..", import.meta.url));

/** @returns the exit code: 0 when every step passed */
export async function runSteps(steps: readonly Step[]): Promise<number> {
  let failed = 0;
  for (const step of steps) {
    const startedAt = performance.now();
    const { code, output } = await runCaptured(step);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(`${code === 0 ? "ok    " : "FAILED"} ${step.name} (${seconds} s)`);
    if (code === 0) continue;
    failed++;
    console.log(output);
  }
  console.log(`${steps.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

function runCaptured(step: Step): Promise<{ code: number; output: string }> {
  const [command, ...args] = step.command;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: {
        ...process.env,
        ...step.env,
        PATH: `${root}node_modules/.bin:${process.env.PATH}`,
        FORCE_COLOR: "0",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString() }),
    );
  });
}
