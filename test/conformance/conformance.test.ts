/** Every dialect in front of every upstream, and the table of it that the README shows. */
import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import { cases } from "./cases.ts";
import { failures, matrix } from "./report.ts";
import { type Cell, runCells } from "./run.ts";

let cells: Cell[];
beforeAll(async () => {
  cells = await runCells();
}, 300_000);

test("each cell passes, or is refused by the name of what its upstream has no place for", () => {
  expect(failures(cells)).toBe("");
});

test("no case is left out without a word: whoever passes none of a case has refused it", () => {
  for (const { name } of cases) {
    const own = cells.filter((cell) => cell.case === name);
    expect(
      own.some(({ outcome }) => outcome === "passed"),
      name,
    ).toBe(true);
    expect(new Set(own.map((cell) => `${cell.dialect} → ${cell.upstream}`)).size, name).toBe(42);
  }
});

test("the README shows the matrix", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  expect(readme).toContain(matrix(cells));
});
