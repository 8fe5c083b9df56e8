/** What a request to a candidate will cost on average, from measured token counts and today's prices. */
import type { Measurement } from "../../sdk/protocol/catalog.ts";
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import { billUsage } from "../ledger/price-book.ts";
import type { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { type Target, toPricedModel } from "./resolve.ts";

/** `undefined` when a price is missing: unknown is dearer than anything, never free. */
export function expectedCost(
  target: Target,
  evidence: Measurement,
  { snapshot, nowMs }: { snapshot: SnapshotIndex; nowMs: number },
): PicoUsd | undefined {
  const usage = {
    input: milli(evidence.meanInputTokens),
    output: milli(evidence.meanOutputTokens),
  };
  const prices = snapshot.price.bind(snapshot);
  const bill = billUsage(usage, toPricedModel(target), prices, nowMs);
  return bill && bill.cost / 1000n;
}

/** Mean token counts are fractions; thousandths of a token keep the product a whole number. */
const milli = (tokens: number): number => Math.round(tokens * 1000);
