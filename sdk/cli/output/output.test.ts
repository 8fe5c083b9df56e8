import pc from "picocolors";
import { expect, test } from "vitest";
import { intervalBar, shareBar, sparkline } from "./bars.ts";
import { bytes, integer, milliseconds, money } from "./format.ts";
import { formatTable } from "./table.ts";

test("an interval's bar spans 0 to 1, with the score as a dot", () => {
  expect(intervalBar({ score: 0.5, lower: 0.25, upper: 0.75 }, 9)).toBe("··━━●━━··");
  expect(intervalBar({ score: 0, lower: 0, upper: 0.3 }, 9)).toBe("●━━······");
  expect(intervalBar({ score: 1, lower: 1, upper: 1 }, 9)).toBe("········●");
});

test("a share's bar is never empty for what is not nothing", () => {
  expect([1, 0.5, 0.0001, 0].map((share) => shareBar(share, 4))).toEqual(["████", "██", "▏", ""]);
});

test("a sparkline is as high as its largest value, and what is not nothing is seen", () => {
  expect(sparkline([0, 0.01, 4, 8])).toBe(" ▁▄█");
  expect(sparkline([0, 0])).toBe("  ");
});

test("columns are as wide as what is seen of their cells, colours aside", () => {
  const colours = pc.createColors(true);
  const rows = [
    { name: colours.red("ab"), n: "1" },
    { name: "abcd", n: "1000" },
  ];
  const table = formatTable(
    rows,
    [
      { title: "N", cell: ({ n }) => n, right: true },
      { title: "NAME", cell: ({ name }) => name },
      { title: "END", cell: () => "." },
    ],
    pc.createColors(false),
  );
  expect(table).toBe(
    ["   N  NAME  END", `   1  ${colours.red("ab")}    .`, "1000  abcd  ."].join("\n"),
  );
});

test("small amounts are shown exactly, larger ones rounded, unknown ones by their name", () => {
  expect(["0.00000015", "12.34567", "0", "-3.00005", undefined].map(money)).toEqual([
    "$0.00000015",
    "$12.3457",
    "$0",
    "-$3.0000",
    "unpriced",
  ]);
});

test("sizes, counts and times are written for people", () => {
  expect([bytes(512), bytes(2048), bytes(5_400_000)]).toEqual(["512 B", "2.0 KiB", "5.1 MiB"]);
  expect([integer(1_234_567), integer(null)]).toEqual(["1,234,567", "-"]);
  expect([milliseconds(12.4), milliseconds(2500), milliseconds(undefined)]).toEqual([
    "12 ms",
    "2.5 s",
    "-",
  ]);
});
