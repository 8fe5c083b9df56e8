import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { errorTable } from "./errors.ts";

test("docs/errors.md lists exactly the codes of the table, with their status and retry", () => {
  const page = readFileSync(new URL("../../docs/errors.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `([a-z_]+)` \| (\d{3}) \| (yes|no) \| (.+) \|$/gm)];
  const listed = Object.fromEntries(
    rows.map(([, code, status, retry]) => [
      code,
      { status: Number(status), retry: retry === "yes" },
    ]),
  );
  const expected = Object.fromEntries(
    Object.entries(errorTable).map(([code, { status, retry }]) => [code, { status, retry }]),
  );
  expect(listed).toEqual(expected);
});
