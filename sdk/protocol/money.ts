/** Money as whole pico-dollars in a bigint: $0.15 per million tokens is exactly 150 000 for one token. */
import { z } from "zod";

/** 10⁻¹² US dollars. Never a float; never rounded before it is shown. */
export type PicoUsd = bigint;

/** On the wire, in SQL and in settings: dollars as a decimal string with at most 12 places. */
export const usdString = z
  .string()
  .regex(/^-?\d{1,26}(\.\d{1,12})?$/, 'expected dollars as a decimal string, such as "0.15"');

/** @param usd dollars as a decimal string with at most 12 places, such as "0.00000015" */
export function parseUsd(usd: string): PicoUsd {
  const match = /^(-?)(\d{1,26})(?:\.(\d{1,12}))?$/.exec(usd);
  if (!match)
    throw new RangeError(
      `not a dollar amount with at most 12 decimal places: ${JSON.stringify(usd)}`,
    );
  const [, sign, whole = "0", fraction = ""] = match;
  const pico = BigInt(whole) * PICO + BigInt(fraction.padEnd(12, "0"));
  return sign === "-" ? -pico : pico;
}

/** The exact amount as a decimal string without trailing zeros; the inverse of `parseUsd`. */
export function formatUsd(pico: PicoUsd): string {
  const sign = pico < 0n ? "-" : "";
  const absolute = pico < 0n ? -pico : pico;
  const fraction = (absolute % PICO).toString().padStart(12, "0").replace(/0+$/, "");
  return `${sign}${absolute / PICO}${fraction === "" ? "" : `.${fraction}`}`;
}

/**
 * For people: `$` and a fixed number of places, rounded half to even. The only place where we round.
 * @param places decimal places, 0 to 12
 */
export function showUsd(pico: PicoUsd, places = 6): string {
  const unit = 10n ** BigInt(12 - places);
  const sign = pico < 0n ? "-" : "";
  const absolute = pico < 0n ? -pico : pico;
  let rounded = absolute / unit;
  const rest = (absolute % unit) * 2n;
  if (rest > unit || (rest === unit && rounded % 2n === 1n)) rounded += 1n;
  const digits = rounded.toString().padStart(places + 1, "0");
  return places === 0
    ? `${sign}$${digits}`
    : `${sign}$${digits.slice(0, -places)}.${digits.slice(-places)}`;
}

const PICO = 10n ** 12n;
