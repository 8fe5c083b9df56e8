/** Turns a report's rows into the chart's series: the dearest by name, the rest as one. */

const seriesMax = 7;

/**
 * @param {{ id: string }} dimension
 * @param {Record<string, any>} row
 */
export function nameOf(dimension, row) {
  switch (dimension.id) {
    case "adapter":
      if (row.model === null) return "no model answered";
      return row.adapter === null ? `${row.model} (base)` : `${row.model}:${row.adapter}`;
    case "project":
      return row.project_name ?? row.project;
    case "key":
      return row.key_name ?? row.key;
    case "model":
      return row.model ?? "no model answered";
    default:
      return row[dimension.id] ?? `no ${dimension.id}`;
  }
}

/** Names that keep a colour of their own, dearest first. @param {string[]} names */
export function namedSeries(names) {
  return [...new Set(names)].slice(0, seriesMax);
}

/** The CSS name of a series' colour. @param {string[]} named @param {string} name */
export function colourOf(named, name) {
  const index = named.indexOf(name);
  return index === -1 ? "series-other" : `series-${index + 1}`;
}

/**
 * Every bucket of the period, those without requests too.
 * @param {{ from: string, to: string, hourly: boolean }} period
 */
export function bucketsOf({ from, to, hourly }) {
  const step = hourly ? 3_600_000 : 86_400_000;
  const buckets = [];
  for (let at = Math.floor(Date.parse(from) / step) * step; at < Date.parse(to); at += step) {
    const iso = new Date(at).toISOString();
    buckets.push(hourly ? `${iso.slice(0, 13)}:00:00Z` : iso.slice(0, 10));
  }
  return buckets;
}

/**
 * @param {{ bucket: string, name: string, usd: number }[]} points
 * @param {string[]} buckets
 * @param {string[]} named
 */
export function stack(points, buckets, named) {
  const at = new Map(buckets.map((bucket, index) => [bucket, index]));
  /** @type {Map<string, number[]>} */
  const series = new Map();
  for (const { bucket, name, usd } of points) {
    const index = at.get(bucket);
    if (index === undefined || usd === 0) continue;
    const label = named.includes(name) ? name : "other";
    const values = series.get(label) ?? buckets.map(() => 0);
    values[index] = (values[index] ?? 0) + usd;
    series.set(label, values);
  }
  return [...named, "other"].flatMap((name) => {
    const values = series.get(name);
    return values ? [{ name, values }] : [];
  });
}
