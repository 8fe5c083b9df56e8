/** Names that a mistyped one may have meant, by edit distance. */

/** The nearest names, at most three, none further than a third of the length of what was written. */
export function nearMatches(written: string, names: readonly string[]): string[] {
  // Only an error asks; the bounds keep a hostile name or a huge catalogue from costing more than that.
  const wanted = written.slice(0, 128).toLowerCase();
  const distanceMax = Math.max(2, Math.floor(wanted.length / 3));
  return [...new Set(names)]
    .slice(0, 2000)
    .map((name) => ({ name, distance: editDistance(wanted, name.toLowerCase(), distanceMax) }))
    .filter(({ distance }) => distance <= distanceMax)
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name))
    .slice(0, 3)
    .map(({ name }) => name);
}

/** Levenshtein's distance, or anything above `distanceMax` once it is certain to be above. */
export function editDistance(a: string, b: string, distanceMax = Number.POSITIVE_INFINITY): number {
  if (Math.abs(a.length - b.length) > distanceMax) return distanceMax + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substituted, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    if (Math.min(...row) > distanceMax) return distanceMax + 1;
    previous = row;
  }
  return previous[b.length] ?? 0;
}
