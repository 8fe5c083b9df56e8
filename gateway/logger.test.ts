import { expect, test } from "vitest";
import { createLogger } from "./logger.ts";

test("a credential is taken out of a line however deep it stands, and all else stays", () => {
  const lines: string[] = [];
  const logger = createLogger("info", 1000, { write: (line) => void lines.push(line) });
  logger.info({ a: { headers: { authorization: "Bearer sk-1" } }, apiKey: "sk-2", n: 1 }, "said");
  logger.debug("not asked for");
  logger.info({ quoted: '"apiKey"' }, "no credential");
  expect(lines.join("")).not.toContain("sk-");
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { a: { headers: { authorization: "[redacted]" } }, apiKey: "[redacted]", n: 1, msg: "said" },
    { quoted: '"apiKey"', msg: "no credential" },
  ]);
  expect(lines.every((line) => line.endsWith("\n"))).toBe(true);
});
