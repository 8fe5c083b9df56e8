/**
 * `npm run test:clients [-- NAME…]`: clients and suites that others wrote, unchanged, against the product. What they need is
 * fetched when they run; what cannot be fetched here is skipped by name.
 */
import { openStage } from "./stage.ts";
import type { SuiteResult } from "./suite.ts";
import { suites } from "./suites.ts";
import { Unavailable } from "./workshop.ts";

type Row = { name: string; seconds: number } & (SuiteResult | { skipped: string });

const names = process.argv.slice(2);
const unknown = names.filter((name) => !suites.some((suite) => suite.name === name));
if (unknown.length > 0) {
  console.error(
    `No suite is called ${unknown.join(", ")}. There are: ${suites.map(({ name }) => name).join(", ")}.`,
  );
  process.exit(2);
}

// Programs that a suite started are ended with this one.
process.once("SIGINT", () => process.exit(130));
process.once("SIGTERM", () => process.exit(143));

const rows: Row[] = [];
const stage = await openStage();
try {
  for (const suite of suites) {
    if (names.length > 0 && !names.includes(suite.name)) continue;
    console.log(`== ${suite.name}`);
    const row = await resultOf(suite);
    rows.push(row);
    if ("skipped" in row) console.log(`skipped: ${row.skipped}`);
    else {
      for (const { name, error } of row.failures) console.log(`FAILED ${name}: ${error}`);
      console.log(`${row.passed} of it passed, in ${row.seconds} s`);
    }
  }
} finally {
  await stage.close();
}

console.log(`\n${table(rows)}`);
for (const row of rows) {
  if ("excepted" in row && row.excepted.length > 0) console.log(exceptionsOf(row));
}
const ran = rows.filter((row): row is Extract<Row, SuiteResult> => "failures" in row);
const failed = ran.reduce((sum, { failures }) => sum + failures.length, 0);
console.log(`${ran.reduce((sum, { passed }) => sum + passed, 0)} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** A suite that cannot come to its end has failed, and the others run all the same. */
async function resultOf(suite: (typeof suites)[number]): Promise<Row> {
  const { name } = suite;
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 1000);
  const progress = setInterval(() => console.log(`   ${name}: ${seconds()} s so far`), 30_000);
  try {
    return { name, ...(await suite.run(stage)), seconds: seconds() };
  } catch (thrown) {
    if (thrown instanceof Unavailable) {
      return { name, skipped: thrown.message, seconds: seconds() };
    }
    const failures = [{ name: "runs to its end", error: String((thrown as Error).message) }];
    return { name, version: "", passed: 0, failures, excepted: [], seconds: seconds() };
  } finally {
    clearInterval(progress);
  }
}

/** A line for each reason, with how often it held for what. */
function exceptionsOf({ name, excepted }: { name: string } & SuiteResult): string {
  const reasons = [...new Set(excepted.map(({ reason }) => reason))].map((reason) => {
    const abouts = excepted.filter((one) => one.reason === reason).map(({ about }) => about);
    const counted = [...new Set(abouts)].map(
      (about) => `${about} (${abouts.filter((one) => one === about).length})`,
    );
    return `excepted of ${name}, ${abouts.length}: ${reason}: ${counted.join(", ")}`;
  });
  return reasons.join("\n");
}

function table(all: readonly Row[]): string {
  const lines = [
    ["client", "version", "passed", "failed", "seconds", "skipped"],
    ...all.map((row) =>
      "skipped" in row
        ? [row.name, "", "", "", "", row.skipped]
        : [
            row.name,
            row.version,
            String(row.passed),
            String(row.failures.length),
            String(row.seconds),
            row.excepted.length > 0 ? `${row.excepted.length}, named below` : "",
          ],
    ),
  ];
  const widths = [0, 1, 2, 3, 4].map((column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  );
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
