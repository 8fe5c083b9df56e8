/** Numbers, money and moments as people read them. */
import { formatUsd, parseUsd, showUsd } from "../../protocol/money.ts";

/** Small amounts exactly, because a request costs a fraction of a cent; larger ones to a hundredth of a cent. */
export function money(usd: string | undefined | null): string {
  if (usd === undefined || usd === null) return "unpriced";
  const pico = parseUsd(usd);
  const cent = 10n ** 10n;
  return -cent < pico && pico < cent ? `$${formatUsd(pico)}` : showUsd(pico, 4);
}

/** A whole number with its thousands apart; `-` for what nobody counted. */
export function integer(value: number | null | undefined): string {
  return value === null || value === undefined ? "-" : new Intl.NumberFormat("en").format(value);
}

export function percent(share: number | undefined): string {
  return share === undefined ? "-" : `${(share * 100).toFixed(1)} %`;
}

export function milliseconds(value: number | undefined): string {
  if (value === undefined) return "-";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  if (value < 1024 ** 2) return `${(value / 1024).toFixed(1)} KiB`;
  if (value < 1024 ** 3) return `${(value / 1024 ** 2).toFixed(1)} MiB`;
  return `${(value / 1024 ** 3).toFixed(1)} GiB`;
}

/** To the minute, in UTC, as all of Switchyard's reports are. */
export function moment(iso: string | undefined): string {
  return iso === undefined ? "-" : `${iso.slice(0, 10)} ${iso.slice(11, 16)}`;
}

/** The same of seconds since 1970, as OpenAI's objects have them. */
export function momentOf(seconds: number | null | undefined): string {
  return seconds == null ? "-" : moment(new Date(seconds * 1000).toISOString());
}
