import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { defaultLimits, readEnvironment } from "./config.ts";
import { defaultMeteringLimits } from "./metering/config.ts";

test("docs/limits.md lists every limit with its default", () => {
  const page = readFileSync(new URL("../docs/limits.md", import.meta.url), "utf8");
  const listed = [...page.matchAll(/^\| `(\w+)` \| ([\d.]+|[a-z]+) \|/gm)].map((row) => [
    row[1],
    /^\d/.test(row[2] ?? "") ? Number(row[2]) : row[2],
  ]);
  const limits = { ...defaultLimits, ...defaultMeteringLimits };
  expect(Object.fromEntries(listed)).toEqual(limits);
});

test("a gateway alone reads its limits and upstreams as JSON, and tells what is wrong with them", () => {
  const env = {
    SWITCHYARD_OPERATOR_KEY: "operator-key-of-tests",
    SWITCHYARD_REGISTRY_URL: "http://registry",
    DATABASE_URL: "postgres://database/x",
    SWITCHYARD_LIMITS: '{"attemptsMax":2}',
    SWITCHYARD_UPSTREAMS: '[{"name":"u","type":"openai"}]',
  };
  const read = readEnvironment(env);
  expect([read.SWITCHYARD_LIMITS.attemptsMax, read.SWITCHYARD_UPSTREAMS[0]?.name]).toEqual([
    2,
    "u",
  ]);
  for (const wrong of ["{", '{"attemptsMx":2}', '{"attemptsMax":0}']) {
    expect(() => readEnvironment({ ...env, SWITCHYARD_LIMITS: wrong })).toThrow(
      "SWITCHYARD_LIMITS",
    );
  }
});
