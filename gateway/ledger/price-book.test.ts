import fc from "fast-check";
import { expect, test } from "vitest";
import { type Price, price, type Snapshot } from "../../sdk/protocol/catalog.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { testPrices, testTimeMs } from "../metering/testing.ts";
import { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { billUsage, worstCost } from "./price-book.ts";

test("a price counts from its first moment, and of corrections the latest", () => {
  const prices = index([
    row("0.000001", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    row("0.000002", "2026-06-01T00:00:00Z", "2026-05-01T00:00:00Z"),
    row("0.000003", "2026-06-01T00:00:00Z", "2026-05-02T00:00:00Z"),
  ]);
  const costAt = (at: string) =>
    billUsage({ input: 1 }, { model: "gpt" }, prices, Date.parse(at))?.cost;
  expect(costAt("2025-12-31T23:59:59Z")).toBeUndefined();
  expect(costAt("2026-01-01T00:00:00Z")).toBe(parseUsd("0.000001"));
  expect(costAt("2026-05-31T23:59:59.999Z")).toBe(parseUsd("0.000001"));
  expect(costAt("2026-06-01T00:00:00Z")).toBe(parseUsd("0.000003"));
});

test("whatever part of the input was cached, the worst case was not less than the cost", () => {
  const prices = testPrices({
    "gpt/input": "0.000001",
    "gpt/cache_read": "0.0000001",
    "gpt/cache_write": "0.00000125",
    "gpt/output": "0.000004",
    "gpt/reasoning": "0.000003",
  });
  const count = fc.nat({ max: 1_000_000 });
  fc.assert(
    fc.property(count, count, count, count, count, (input, read, write, output, reasoning) => {
      const tokens = { inputTokens: input + read + write, outputTokensMax: output + reasoning };
      const usage = { input, cache_read: read, cache_write: write, output, reasoning };
      const bill = billUsage(usage, { model: "gpt" }, prices, testTimeMs);
      const worst = worstCost(tokens, { model: "gpt" }, prices, testTimeMs);
      expect(bill?.cost).toBe(bill?.lines.reduce((sum, line) => sum + line.amount, 0n));
      expect(worst).toBeGreaterThanOrEqual(bill?.cost ?? 0n);
    }),
  );
});

test("without a price for input and for output there is no worst case", () => {
  const prices = testPrices({ "gpt/input": "0.000001" });
  const tokens = { inputTokens: 1, outputTokensMax: 1 };
  expect(worstCost(tokens, { model: "gpt" }, prices, testTimeMs)).toBeUndefined();
});

function row(usdPerToken: string, validFrom: string, recordedAt: string): Price {
  return price.parse({
    id: newId("price"),
    model: "gpt",
    meter: "input",
    usdPerToken,
    validFrom,
    recordedAt,
    source: "test",
  });
}

function index(prices: Price[]) {
  const snapshot: Snapshot = {
    version: 1,
    generatedAt: "2026-01-01T00:00:00Z",
    projects: [],
    keys: [],
    models: [],
    adapters: [],
    routes: [],
    prices,
    measurements: [],
  };
  const policy = new SnapshotIndex(snapshot);
  return policy.price.bind(policy);
}
