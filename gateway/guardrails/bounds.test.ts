/** The bounds of guardrails stand in the documentation as they are. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { guardrailBounds } from "../../sdk/protocol/guardrails.ts";

test("docs/limits.md lists the bounds of guardrails", () => {
  const page = readFileSync(new URL("../../docs/limits.md", import.meta.url), "utf8");
  const section = page.split("## Guardrails\n")[1]?.split("\n## ")[0] ?? "";
  const listed = [...section.matchAll(/^\| (\d+) \| `(\w+)` \|$/gm)].map(([, bound, name]) => [
    name,
    Number(bound),
  ]);
  expect(Object.fromEntries(listed)).toEqual(guardrailBounds);
});
