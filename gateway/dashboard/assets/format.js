/** Numbers as people read them. Amounts arrive as decimal strings and are rounded only here. */

/**
 * Dollars with enough places that a small amount does not look like nothing.
 * @param {string} usd
 * @param {number} of the amount whose size decides on the places; an axis has one for all
 */
export function money(usd, of = Math.abs(Number(usd))) {
  const places = placesOf(of);
  return new Intl.NumberFormat("en-US", {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  }).format(/** @type {any} */ (usd));
}

/** Two digits at least, of amounts as small as one request to a small model. @param {number} amount */
function placesOf(amount) {
  if (amount === 0 || amount >= 1) return 2;
  if (amount >= 0.01) return 4;
  return amount >= 0.0001 ? 6 : Math.min(12, 1 - Math.floor(Math.log10(amount)));
}

/** @param {number} count */
export function whole(count) {
  return new Intl.NumberFormat("en-US").format(count);
}

/** `1.2M`. @param {number} count */
export function compact(count) {
  return new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }).format(
    count,
  );
}

/** @param {number} part @param {number} of */
export function percent(part, of) {
  if (of === 0) return "–";
  return new Intl.NumberFormat("en-US", { style: "percent", maximumFractionDigits: 1 }).format(
    part / of,
  );
}

/** @param {number | null} ms */
export function duration(ms) {
  if (ms === null) return "–";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** `21 Nov 14:03:07`, in UTC. @param {string} iso */
export function moment(iso) {
  return new Intl.DateTimeFormat("en-GB", {
    timeZone: "UTC",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  })
    .format(new Date(iso))
    .replace(",", "");
}

/** `21 Nov 2026`, in UTC. @param {string} iso */
export function day(iso) {
  return new Intl.DateTimeFormat("en-GB", {
    timeZone: "UTC",
    day: "numeric",
    month: "short",
    year: "numeric",
  }).format(new Date(iso));
}

/** An axis label for a day or an hour of a report. @param {string} bucket */
export function bucketLabel(bucket) {
  const hourly = bucket.includes("T");
  return new Intl.DateTimeFormat("en-GB", {
    timeZone: "UTC",
    ...(hourly ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" }),
  }).format(new Date(bucket));
}

/** @param {number | null} count */
export function tokenCount(count) {
  return count === null ? null : whole(count);
}

/**
 * Every decimal there is, and as many for each row of a column, so that the points stand in line.
 * @param {(string | null)[]} column
 * @returns {(usd: string | null) => string | null}
 */
export function exactIn(column) {
  const places = Math.max(2, ...column.map((usd) => usd?.split(".")[1]?.length ?? 0));
  return (usd) => {
    if (usd === null) return null;
    const [dollars, decimals = ""] = usd.split(".");
    return `${dollars}.${decimals.padEnd(places, "0")}`;
  };
}
