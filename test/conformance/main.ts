/** Prints the matrix: `npm run conformance`, or with parts of names `npm run conformance -- Gemini "tool call"`. */
import { failures, matrix, refusals } from "./report.ts";
import { runCells } from "./run.ts";

const cells = await runCells(process.argv.slice(2));
console.log(`${matrix(cells)}\n\nRefused by name:\n\n${refusals(cells)}`);
const failed = failures(cells);
if (failed !== "") {
  console.error(`\nFailed:\n\n${failed}`);
  process.exitCode = 1;
}
