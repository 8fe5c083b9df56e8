/**
 * One of the gateways of `budget-race.slow.test.ts`: asks for many requests at once and tells on a line of its own
 * what became of each. Its arguments are one JSON object.
 */
import { parseArgs } from "node:util";
import postgres from "postgres";
import { z } from "zod";
import { apiKey, project } from "../../../sdk/protocol/catalog.ts";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { meteringLimits } from "../config.ts";
import { openMetering } from "../metering.ts";
import { testPrices, testReserve, testSettlement } from "../testing.ts";

const { positionals } = parseArgs({ allowPositionals: true });
const asked = z
  .object({
    dataDir: z.string(),
    databaseUrl: z.string(),
    redisUrl: z.string(),
    principal: z.object({ project, key: apiKey }),
    requests: z.int(),
    /** Absent: all at once. */
    atATime: z.int().optional(),
    /** Requests that are granted and never settled, until the process is killed. */
    neverSettled: z.int(),
    reservationTtlMs: z.int(),
  })
  .parse(JSON.parse(positionals[0] ?? ""));

const sql = postgres(asked.databaseUrl, { max: 2, onnotice: () => {} });
const metering = await openMetering({
  dataDir: asked.dataDir,
  sql,
  redisUrl: asked.redisUrl,
  prices: testPrices({ "gpt/input": "0.000001", "gpt/output": "0.000004" }),
  now: Date.now,
  limits: meteringLimits.parse({
    reservationTtlMs: asked.reservationTtlMs,
    redisTimeoutMs: 60_000,
    budgetLoadTimeoutMs: 60_000,
  }),
  onError(error) {
    throw error;
  },
});
process.stdout.write("ready\n");
await new Promise((resolve) => process.stdin.once("data", resolve));

let granted = 0;
async function ask(): Promise<void> {
  try {
    const reservation = await metering.accounts.reserve(testReserve(asked.principal));
    granted++;
    if (granted <= asked.neverSettled) {
      process.stdout.write("held\n");
      return;
    }
    await reservation.settle(testSettlement({ usage: { input: 100, output: 50 } }));
    process.stdout.write("settled\n");
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== "insufficient_quota") throw error;
    process.stdout.write(`refused ${JSON.stringify(error.details)}\n`);
  }
}

let left = asked.requests;
async function askOn(): Promise<void> {
  while (left-- > 0) await ask();
}
await Promise.all(Array.from({ length: asked.atATime ?? asked.requests }, askOn));
if (asked.neverSettled === 0) {
  await metering.close();
  await sql.end();
  // An exit would lose what is still on its way through the pipe.
  process.stdin.destroy();
}
