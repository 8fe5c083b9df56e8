/** Turns usage into money by the prices in effect, or says that a price is missing. Never guesses one. */
import type { Price } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { type Meter, meters, type UsageVector } from "../../sdk/protocol/usage.ts";
import type { PricedModel } from "../metering/types.ts";

/** The row in effect at a moment: latest `validFrom` that has come, then latest `recordedAt`. */
export type PriceSource = (model: string, meter: Meter, atMs: number) => Price | undefined;

/** What one meter of one request cost, and by which price row. */
export type BillLine = { meter: Meter; quantity: number; priceId: string; amount: PicoUsd };

/** The lines' sum is the cost, exactly. */
export type Bill = { lines: BillLine[]; cost: PicoUsd };

/**
 * @returns `undefined` when a meter that was used has no price, or no meter was reported at all: the
 *   request is unpriced
 */
export function billUsage(
  usage: UsageVector,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): Bill | undefined {
  if (Object.keys(usage).length === 0) return undefined;
  const lines: BillLine[] = [];
  let cost = 0n;
  for (const meter of meters) {
    const quantity = usage[meter];
    if (quantity === undefined || quantity === 0) continue;
    const price = priceOf(model, meter, prices, atMs);
    if (price === undefined) return undefined;
    const amount = BigInt(quantity) * perToken(price);
    lines.push({ meter, quantity, priceId: price.id, amount });
    cost += amount;
  }
  return { lines, cost };
}

/**
 * The most that a request may cost: every input token at the dearest input meter, every output token
 * at the dearest output meter.
 * @returns `undefined` when input or output has no price
 */
export function worstCost(
  tokens: { inputTokens: number; outputTokensMax: number },
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): PicoUsd | undefined {
  if (!isPriced(model, prices, atMs)) return undefined;
  const input = dearest(["input", "cache_read", "cache_write"], model, prices, atMs);
  const output = dearest(["output", "reasoning"], model, prices, atMs);
  return BigInt(tokens.inputTokens) * input + BigInt(tokens.outputTokensMax) * output;
}

/**
 * What usage counts against budgets that has no bill: each token at the dearest price of its kind, so that
 * one missing meter, such as `cache_read`, does not let a budget be spent without end. Nothing where input
 * or output has no price at all: `unpriced: refuse` is for projects that mind.
 */
export function unbilledCost(
  usage: UsageVector,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): PicoUsd {
  const { input = 0, cache_read = 0, cache_write = 0, output = 0, reasoning = 0 } = usage;
  const tokens = {
    inputTokens: input + cache_read + cache_write,
    outputTokensMax: output + reasoning,
  };
  return worstCost(tokens, model, prices, atMs) ?? 0n;
}

/** Whether input and output have a price: what every answer uses. */
export function isPriced(model: PricedModel, prices: PriceSource, atMs: number): boolean {
  return (
    priceOf(model, "input", prices, atMs) !== undefined &&
    priceOf(model, "output", prices, atMs) !== undefined
  );
}

/** @param names models that a project refuses because none of them has a price */
export function noPrice(names: readonly string[]): HubError {
  return new HubError(
    "no_price",
    `No price is known for ${names.map((name) => `'${name}'`).join(", ")}, and this project refuses requests without one. ` +
      "An administrator can add prices for 'input' and 'output' (POST /api/prices).",
    { param: "model", details: { models: names } },
  );
}

/** An adapter's own price wins over its base's, meter by meter. */
function priceOf(
  { model, adapter }: PricedModel,
  meter: Meter,
  prices: PriceSource,
  atMs: number,
): Price | undefined {
  const own = adapter === undefined ? undefined : prices(`${model}:${adapter}`, meter, atMs);
  return own ?? prices(model, meter, atMs);
}

function dearest(
  of: readonly Meter[],
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): PicoUsd {
  let most = 0n;
  for (const meter of of) {
    const price = priceOf(model, meter, prices, atMs);
    if (price !== undefined && perToken(price) > most) most = perToken(price);
  }
  return most;
}

/** Price rows never change, so the parsed amount is kept with the row. */
function perToken(price: Price): PicoUsd {
  let pico = parsed.get(price);
  if (pico === undefined) {
    pico = parseUsd(price.usdPerToken);
    parsed.set(price, pico);
  }
  return pico;
}

const parsed = new WeakMap<Price, PicoUsd>();
