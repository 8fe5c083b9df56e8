/** `npm test`: every test that this machine can run, and by name what it could not run and why. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { optionalParts } from "./support/optional-parts.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

for (const part of await optionalParts())
  console.log(`${part.found ? "with   " : "without"} ${part.name}: ${part.detail}`);

const vitest = spawn(
  `${root}node_modules/.bin/vitest`,
  [
    "run",
    "--reporter=default",
    "--reporter=./test/support/summary-reporter.ts",
    ...process.argv.slice(2),
  ],
  { cwd: root, stdio: "inherit" },
);
vitest.on("close", (status) => {
  process.exitCode = status ?? 1;
});
