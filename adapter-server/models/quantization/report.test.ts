import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readReport } from "./report.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-report-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("an import without a report has none", async () => {
  expect(await readReport(folder)).toBeUndefined();
});

test.each(["", "{", "null", '{"version":2}'])("a damaged report is told: %j", async (text) => {
  await writeFile(join(folder, "quantization.json"), text);
  await expect(readReport(folder)).rejects.toMatchObject({
    code: "unsupported_model",
    message: expect.stringContaining("is damaged. Remove the import"),
  });
});
