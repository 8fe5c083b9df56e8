/**
 * `npm run check`: lint, types, unused code, unit tests and the architecture test, with a line for each.
 * `npm run check -- --static` leaves the tests out.
 */
import { runSteps, type Step } from "./steps.ts";

const steps: Step[] = [
  { name: "lint and format (biome)", command: ["biome", "check", "--error-on-warnings", "."] },
  { name: "types (tsc)", command: ["tsc"] },
  { name: "unused code (knip)", command: ["knip"] },
];
if (!process.argv.includes("--static"))
  steps.push({
    name: "unit tests and architecture (vitest)",
    command: ["vitest", "run", "--project", "unit", "--reporter=dot"],
  });
process.exitCode = await runSteps(steps);
