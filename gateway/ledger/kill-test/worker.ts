/**
 * The victim of `kill.slow.test.ts`: settles requests as fast as it can, and writes the id of each on a line
 * of its own once the settlement was acknowledged. Arguments: the data folder, the database's options.
 */
import postgres from "postgres";
import { newId } from "../../../sdk/protocol/ids.ts";
import { meteringLimits } from "../../metering/config.ts";
import { openMetering } from "../../metering/metering.ts";
import { testPrices, testPrincipal, testReserve, testSettlement } from "../../metering/testing.ts";

const [dataDir = "", connection = "{}"] = process.argv.slice(2);

const metering = await openMetering({
  dataDir,
  sql: postgres({ ...JSON.parse(connection), max: 1, onnotice: () => {} }),
  prices: testPrices({ "gpt/input": "0.000001", "gpt/output": "0.000004" }),
  now: Date.now,
  limits: meteringLimits.parse({
    segmentBytesMax: 64 << 10,
    ingestRecordsMax: 50,
    ingestDelayMs: 1,
  }),
  onError: (error) => console.error(error),
});
const principal = testPrincipal();

async function settleForever(): Promise<void> {
  for (;;) {
    const requestId = newId("req");
    const reservation = await metering.accounts.reserve(testReserve(principal, { requestId }));
    await reservation.settle(testSettlement());
    process.stdout.write(`${requestId}\n`);
  }
}

await Promise.all(Array.from({ length: 8 }, settleForever));
