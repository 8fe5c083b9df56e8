/** Numbers as people read them. Amounts arrive as decimal strings and are rounded only here. */

/**
 * Dollars with enough places that a small amount does not look like nothing.
 * @param {string} usd
 * @param {number} of the amount whose size decides on the places; an axis has one for all
 */
export function money(usd, of = Math.abs(Number(usd))) {
  const places = of === 0 || of >= 1 ? 2 : of >= 0.01 ? 4 : 6;
  if (Number(usd) !== 0 && of < 0.000001) return usd.startsWith("-") ? "-<$0.000001" : "<$0.000001";
  return new Intl.NumberFormat("en-US", {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  }).format(/** @type {any} */ (usd));
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

/** An axis label for a day or an hour of a report. @param {string} bucket */
export function bucketLabel(bucket) {
  const hourly = bucket.includes("T");
  return new Intl.DateTimeFormat("en-GB", {
    timeZone: "UTC",
    ...(hourly ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" }),
  }).format(new Date(bucket));
}
