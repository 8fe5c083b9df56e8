import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isAdapterName } from "./adapter-names.ts";

const shared = fileURLToPath(
  new URL("../../../shared/fixtures/families/broken/adapter-names.json", import.meta.url),
);

test("a name is letters, digits, dots, dashes and underscores, at most 64", () => {
  for (const name of ["support", "sql-v2", "A1", "a", "team.sql_v2-final", "a".repeat(64)]) {
    expect([name, isAdapterName(name)]).toEqual([name, true]);
  }
  for (const name of [
    "",
    "..",
    "a/b",
    "../evil",
    "line\nbreak",
    "model:latest",
    "sup\u0440ort",
    "support\u200b",
    "a.",
    "CON",
    "nul.txt",
    "constructor",
    "toString",
    "a".repeat(65),
  ]) {
    expect([name, isAdapterName(name)]).toEqual([name, false]);
  }
});

test("whatever passes needs no quoting in a path, a label or a log", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 70 }), (name) => {
      if (!isAdapterName(name)) return;
      expect(encodeURIComponent(name)).toBe(name);
      expect(JSON.stringify(name)).toBe(`"${name}"`);
    }),
  );
});

describe.skipIf(!existsSync(shared))("names of the fixtures (skipped without ../shared)", () => {
  test("are accepted and refused as they say", () => {
    const table: { accept: string[]; refuse: Record<string, string> } = JSON.parse(
      readFileSync(shared, "utf8"),
    );
    expect(table.accept.filter((name) => !isAdapterName(name))).toEqual([]);
    expect(Object.keys(table.refuse).filter(isAdapterName)).toEqual([]);
    expect(Object.keys(table.refuse).length).toBeGreaterThan(30);
  });
});
