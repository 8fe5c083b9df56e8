/** Tables for a terminal: columns as wide as their widest cell, numbers to the right. */
import type { Colours } from "./terminal.ts";

export type Column<T> = { title: string; cell: (row: T) => string; right?: boolean };

/** Cells may hold colours; their width is that of what is seen. An empty table is its title line. */
export function formatTable<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  colours: Colours,
): string {
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)));
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...cells.map((line) => seenWidth(line[index] ?? ""))),
  );
  const format = (line: readonly string[]) =>
    line
      .map((cell, index) => pad(cell, widths[index] ?? 0, columns[index]?.right === true))
      .join("  ")
      .trimEnd();
  const head = colours.dim(format(columns.map(({ title }) => title)));
  return [head, ...cells.map(format)].join("\n");
}

function pad(cell: string, width: number, right: boolean): string {
  const space = " ".repeat(Math.max(0, width - seenWidth(cell)));
  return right ? space + cell : cell + space;
}

function seenWidth(text: string): number {
  return text.replace(colourCodes, "").length;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the codes begin with the escape character.
const colourCodes = /\u001b\[\d+m/g;
