/** Turns usage into money by the prices in effect, or says that a price is missing. Never guesses one. */
import type { Price, PriceTier } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import {
  inputMeters,
  type Meter,
  outputMeters,
  tokenMeters,
  type UsageVector,
  unitMeters,
} from "../../sdk/protocol/usage.ts";
import type { PricedModel } from "../metering/types.ts";

/** The row in effect at a moment: latest `validFrom` that has come, then latest `recordedAt`. */
export type PriceSource = (
  model: string,
  meter: Meter,
  atMs: number,
  tier?: PriceTier,
) => Price | undefined;

/**
 * The prices of a batch's requests: a meter's own for batches, else what it costs anyone. That is no guess, for a
 * batch's lines reach providers as any request does, and are charged by them as such.
 */
export function batchPrices(prices: PriceSource): PriceSource {
  return (model, meter, atMs) => prices(model, meter, atMs, "batch") ?? prices(model, meter, atMs);
}

/**
 * What a kept answer costs: each of the meters that it used when it was made, at the meter's own price for kept answers.
 * Where there is none it is free: nobody was asked, so nobody charges for it.
 */
export function billReplay(
  made: UsageVector,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): Bill {
  const own: PriceSource = (name, meter, at) => prices(name, meter, at, "cached_response");
  const priced = Object.entries(made).filter(
    ([meter]) => priceOf(model, meter as Meter, own, atMs) !== undefined,
  );
  return billUsage(Object.fromEntries(priced), model, own, atMs) ?? { lines: [], cost: 0n };
}

/** What one meter of one request cost, and by which price row. */
export type BillLine = { meter: Meter; quantity: number; priceId: string; amount: PicoUsd };

/** The lines' sum is the cost, exactly. */
export type Bill = { lines: BillLine[]; cost: PicoUsd };

/** So many of whichever of its meters is the dearest; the first of them has to have a price. */
export type Term = { quantity: number; meters: readonly [Meter, ...Meter[]] };

/** One way in which a provider may bill a request. Which one it is shows in what the model has prices for. */
export type Tariff = readonly Term[];

/** What a request may use at most: text, unless its tariffs say otherwise. */
export type WorstUse = {
  inputTokens: number;
  outputTokensMax: number;
  tariffs?: readonly Tariff[] | undefined;
};

/**
 * Where tokens and other units of the same use are known, the tokens are billed if all of them have prices, else the
 * units.
 * @returns `undefined` when a meter that was used has no price, or no meter was reported at all: the
 *   request is unpriced
 */
export function billUsage(
  usage: UsageVector,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): Bill | undefined {
  return (
    billMeters(tokenMeters, usage, model, prices, atMs) ??
    billMeters(unitMeters, usage, model, prices, atMs)
  );
}

function billMeters(
  meters: readonly Meter[],
  usage: UsageVector,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): Bill | undefined {
  if (meters.every((meter) => usage[meter] === undefined)) return undefined;
  const lines: BillLine[] = [];
  let cost = 0n;
  for (const meter of meters) {
    const quantity = usage[meter];
    if (quantity === undefined || quantity === 0) continue;
    const price = priceOf(model, meter, prices, atMs);
    if (price === undefined) return undefined;
    const amount = BigInt(quantity) * perUnit(price);
    lines.push({ meter, quantity, priceId: price.id, amount });
    cost += amount;
  }
  return { lines, cost };
}

/**
 * The most that a request may cost, by the dearest of the tariffs that the model has prices for. Of text: every
 * input token at the dearest input meter, every output token at the dearest output meter.
 * @returns `undefined` when the model has prices for no tariff
 */
export function worstCost(
  use: WorstUse,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): PicoUsd | undefined {
  let worst: PicoUsd | undefined;
  for (const tariff of use.tariffs ?? [textTariff(use)]) {
    if (!isPriced(model, prices, atMs, [tariff])) continue;
    let cost = 0n;
    for (const { quantity, meters } of tariff) {
      cost += BigInt(quantity) * dearest(meters, model, prices, atMs);
    }
    if (worst === undefined || cost > worst) worst = cost;
  }
  return worst;
}

function textTariff({ inputTokens, outputTokensMax }: WorstUse): Tariff {
  return [
    { quantity: inputTokens, meters: ["input", "cache_read", "cache_write"] },
    { quantity: outputTokensMax, meters: ["output", "reasoning"] },
  ];
}

/**
 * What usage counts against budgets that has no bill: each token at the dearest price of its kind, so that
 * one missing meter, such as `cache_read`, does not let a budget be spent without end. Nothing of a kind that has
 * no price at all: `unpriced: refuse` is for projects that mind.
 */
export function unbilledCost(
  usage: UsageVector,
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
): PicoUsd {
  let cost = 0n;
  for (const kind of [inputMeters, outputMeters, ...unitMeters.map((meter) => [meter] as const)]) {
    const quantity = kind.reduce((sum, meter) => sum + (usage[meter] ?? 0), 0);
    cost += BigInt(quantity) * dearest(kind, model, prices, atMs);
  }
  return cost;
}

/** Whether a model has prices for what a request may use; without tariffs, for input and output, which every answer uses. */
export function isPriced(
  model: PricedModel,
  prices: PriceSource,
  atMs: number,
  tariffs: readonly Tariff[] = [textTariff({ inputTokens: 0, outputTokensMax: 0 })],
): boolean {
  return tariffs.some((tariff) =>
    tariff.every(({ meters: [first] }) => priceOf(model, first, prices, atMs) !== undefined),
  );
}

/** @param names models that a project refuses because none of them has a price */
export function noPrice(names: readonly string[], tariffs?: readonly Tariff[]): HubError {
  const wanted = (tariffs ?? [textTariff({ inputTokens: 0, outputTokensMax: 0 })]).map((tariff) =>
    tariff.map(({ meters: [first] }) => `'${first}'`).join(" and "),
  );
  return new HubError(
    "no_price",
    `No price is known for ${names.map((name) => `'${name}'`).join(", ")}, and this project refuses requests without one. ` +
      `An administrator can add prices for ${wanted.join(", or for ")} (POST /api/prices).`,
    { param: "model", details: { models: names } },
  );
}

/** An adapter's own price wins over its base's, meter by meter. */
export function priceOf(
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
    if (price !== undefined && perUnit(price) > most) most = perUnit(price);
  }
  return most;
}

/** Price rows never change, so the parsed amount is kept with the row. */
function perUnit(price: Price): PicoUsd {
  let pico = parsed.get(price);
  if (pico === undefined) {
    pico = parseUsd(price.usdPerToken);
    parsed.set(price, pico);
  }
  return pico;
}

const parsed = new WeakMap<Price, PicoUsd>();
