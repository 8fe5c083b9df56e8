import fc from "fast-check";
import { expect, test } from "vitest";
import { type Price, price, type Snapshot } from "../../sdk/protocol/catalog.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { testPrices, testTimeMs } from "../metering/testing.ts";
import { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { billUsage, unbilledCost, worstCost } from "./price-book.ts";

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

test("of tokens and units the tokens are billed, where all of them have prices", () => {
  const usage = { input: 10, output_image: 100, images: 2 };
  const costOf = (prices: Record<string, string>) =>
    billUsage(usage, { model: "painter" }, testPrices(prices), testTimeMs)?.cost;
  const byPiece = { "painter/images": "0.04" };
  const byTokens = { "painter/input": "0.000005", "painter/output_image": "0.00004" };
  expect(costOf({ ...byPiece, ...byTokens })).toBe(parseUsd("0.00405"));
  expect(costOf({ ...byPiece, "painter/input": "0.000005" })).toBe(parseUsd("0.08"));
  expect(costOf({ "painter/input": "0.000005" })).toBeUndefined();
});

test("the worst case is that of the dearest tariff with prices", () => {
  const tariffs = [
    [{ quantity: 60_000, meters: ["audio_ms"] as const }],
    [
      { quantity: 600, meters: ["input_audio", "input"] as const },
      { quantity: 100, meters: ["output"] as const },
    ],
  ];
  const worst = (prices: Record<string, string>) =>
    worstCost(
      { inputTokens: 0, outputTokensMax: 0, tariffs },
      { model: "scribe" },
      testPrices(prices),
      testTimeMs,
    );
  const byTime = { "scribe/audio_ms": "0.0000001" };
  const byTokens = { "scribe/input_audio": "0.000006", "scribe/output": "0.00001" };
  expect(worst(byTime)).toBe(parseUsd("0.006"));
  expect(worst({ ...byTime, ...byTokens })).toBe(parseUsd("0.006"));
  expect(worst(byTokens)).toBe(parseUsd("0.0046"));
  expect(worst({ "scribe/output": "0.00001" })).toBeUndefined();
});

test("what has no bill counts at the dearest price of its kind", () => {
  const prices = testPrices({ "gpt/input": "0.000001", "gpt/output": "0.000004" });
  const usage = { input: 10, input_audio: 10, output: 1, output_audio: 1, images: 1 };
  expect(unbilledCost(usage, { model: "gpt" }, prices, testTimeMs)).toBe(parseUsd("0.000028"));
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
