/** `npm run check`: lint, types, unused code, unit tests and the architecture test, with a line for each. */
import { runSteps } from "./steps.ts";

process.exitCode = await runSteps([
  { name: "lint and format (biome)", command: ["biome", "check", "--error-on-warnings", "."] },
  { name: "types (tsc)", command: ["tsc"] },
  { name: "unused code (knip)", command: ["knip"] },
  {
    name: "unit tests and architecture (vitest)",
    command: ["vitest", "run", "--project", "unit", "--reporter=dot"],
  },
]);
