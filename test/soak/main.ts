/** `npm run soak [-- --requests N] [--seed N]`: ten thousand random requests against the engine, and what they left behind. */
import { parseArgs } from "node:util";
import { soak } from "./soak.ts";

const growthMax = 0.05;

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
  },
});
const requests = Number(values.requests);
const seed = Number(values.seed);
const startedAt = performance.now();
const { outcomes, problems, residentBytes, growth } = await soak({
  requests,
  seed,
  onProgress: (done, bytes) => {
    const seconds = (performance.now() - startedAt) / 1000;
    console.log(
      `${String(done).padStart(7)} of ${requests}, ${seconds.toFixed(0)} s, ${megabytes(bytes)} resident`,
    );
  },
});

console.log("\nhow requests ended:");
for (const [outcome, count] of Object.entries(outcomes).sort(([, a], [, b]) => b - a)) {
  console.log(`${String(count).padStart(7)} ${outcome}`);
}
const isFlat = growth <= growthMax;
console.log(
  `\nresident memory: ${residentBytes.map(megabytes).join(", ")}; the least of the last third is ${(100 * growth).toFixed(1)} % above that of the middle one, ${isFlat ? "within" : "BEYOND"} ${100 * growthMax} %`,
);
for (const problem of problems.slice(0, 50)) console.log(`PROBLEM ${problem}`);
console.log(problems.length === 0 ? "no problem" : `${problems.length} problems (seed ${seed})`);
process.exit(problems.length === 0 && isFlat ? 0 : 1);

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
