/**
 * `npm run bench -- keys`: whether the time of a refusal tells what is wrong with a key. Each kind of wrong key is sent as
 * often as the others, in an order drawn by chance; Welch's t of each kind against keys that share nothing with any that
 * exists has to stay below 4.5, the bound of dudect for "no difference is to be seen".
 * @see Reparaz, Balasch, Verbauwhede: Dude, is my code constant time?, https://eprint.iacr.org/2016/1123
 */
import { pino } from "pino";
import { createGateway } from "../../gateway/gateway.ts";
import { generateKey } from "../../registry/keys.ts";
import { testAccounts, testRegistry } from "../support/gateway.ts";
import { testKey, testProject, testSnapshot } from "../support/policy.ts";
import { describeMachine, quantile } from "./report.ts";

/** Of each kind, after as many again to warm up a tenth of that. */
const TURNS = 20_000;
const KEYS = 10_000;
const BOUND = 4.5;

type Kind = { name: string; make: () => string };

export async function run(): Promise<void> {
  const project = testProject("timed");
  const texts = Array.from({ length: KEYS }, () => generateKey("project"));
  const revokedAt = "2026-01-01T00:00:00Z";
  const keys = texts.map((text, index) =>
    testKey(text, { projectId: project.id, ...(index % 2 === 1 && { revokedAt }) }),
  );
  const operatorKey = "operator-key-of-the-bench";
  const gateway = await createGateway({
    upstreams: [],
    registry: testRegistry(testSnapshot({ projects: [project], keys }), operatorKey),
    operatorKey,
    accounts: testAccounts().create,
    logger: pino({ level: "silent" }),
    env: {},
    // None of them is told to wait.
    limits: { wrongKeysPerMinuteMax: 1e9 },
  });
  await gateway.start();
  const real = () => texts[2 * Math.floor((Math.random() * KEYS) / 2)] ?? "";
  // In use, so that it is among the keys whose hash is remembered.
  for (const text of texts.filter((_, index) => index % 2 === 0)) await ask(text, 200);
  const kinds: Kind[] = [
    { name: "nothing in common with any key", make: () => generateKey("project") },
    { name: "another prefix", make: () => generateKey("project").replace("sk-sy-", "xx-yz-") },
    { name: "a wrong checksum", make: () => `${generateKey("project").slice(0, -6)}000000` },
    { name: "a real key but for its last character", make: () => `${real().slice(0, -1)}!` },
    {
      name: "a real key but for its first random one",
      make: () => real().replace(/^(.{6})./, "$1!"),
    },
    {
      name: "a key that is revoked",
      make: () => texts[1 + 2 * Math.floor((Math.random() * KEYS) / 2)] ?? "",
    },
  ];
  // Made before, and each text laid out afresh: what making a key leaves in the processor's caches is not to be measured.
  const made = kinds.map(({ make }) =>
    Array.from({ length: TURNS }, () => Buffer.from(make()).toString()),
  );
  const used = kinds.map(() => 0);
  const next = (index: number) => made[index]?.[(used[index] as number)++ % TURNS] ?? "";
  const times = kinds.map(() => [] as number[]);
  const order = shuffled(Array.from({ length: TURNS * kinds.length }, (_, i) => i % kinds.length));
  for (const index of order.slice(0, order.length / 10)) await ask(next(index), 401);
  used.fill(0);
  for (const index of order) {
    times[index]?.push(await ask(next(index), 401));
  }
  await gateway.stop();

  const base = cropped(times[0] ?? []);
  console.log(`${KEYS} keys, ${TURNS} refusals of each kind\n`);
  console.log(
    `${"a key with".padEnd(44)} ${"median".padStart(9)} ${"mean".padStart(9)} ${"t".padStart(7)}`,
  );
  const rows = kinds.map(({ name }, index) => {
    const sample = cropped(times[index] ?? []);
    const t = index === 0 ? 0 : welch(sample, base);
    const told = Math.abs(t) < BOUND ? "" : "  TOLD APART";
    console.log(
      `${name.padEnd(44)} ${us(quantile(sample, 0.5)).padStart(9)} ${us(mean(sample)).padStart(9)} ${t.toFixed(2).padStart(7)}${told}`,
    );
    return { bench: "keys", case: name, meanUs: mean(sample), t, bound: BOUND };
  });
  console.log(`\n${describeMachine()}`);
  console.log(JSON.stringify(rows));
  if (rows.some(({ t }) => Math.abs(t) >= BOUND)) process.exitCode = 1;

  /** @returns microseconds */
  async function ask(key: string, status: number): Promise<number> {
    const request = new Request("http://gateway/v1/models", {
      headers: { authorization: `Bearer ${key}` },
    });
    const startedAt = performance.now();
    const response = await gateway.app.fetch(request);
    const tookMs = performance.now() - startedAt;
    if (response.status !== status) throw new Error(`a key was answered with ${response.status}`);
    return tookMs * 1000;
  }
}

/** The slowest tenth is the machine's, not the code's: collections of garbage, other processes. */
function cropped(sample: readonly number[]): number[] {
  const sorted = [...sample].sort((a, b) => a - b);
  return sorted.slice(0, Math.floor(sorted.length * 0.9));
}

function welch(a: readonly number[], b: readonly number[]): number {
  return (mean(a) - mean(b)) / Math.sqrt(variance(a) / a.length + variance(b) / b.length);
}

const mean = (sample: readonly number[]): number =>
  sample.reduce((sum, value) => sum + value, 0) / sample.length;

function variance(sample: readonly number[]): number {
  const middle = mean(sample);
  return sample.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (sample.length - 1);
}

function shuffled(items: number[]): number[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [items[i], items[j]] = [items[j] as number, items[i] as number];
  }
  return items;
}

const us = (value: number): string => `${value.toFixed(2)} µs`;
