/** What the documentation tells users to paste is what the suites run. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const here = new URL("./", import.meta.url);
const documented = readFileSync(new URL("../../docs/clients.md", import.meta.url), "utf8");
const files = readdirSync(here, { recursive: true, encoding: "utf8" }).filter((name) =>
  /connect\.(mjs|py)$/.test(name),
);

test.each(files)("docs/clients.md has %s as it is", (file) => {
  expect(documented).toContain(readFileSync(new URL(file, here), "utf8").trimEnd());
});
