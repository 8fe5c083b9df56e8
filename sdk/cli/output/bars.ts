/** Plots of one line: a share with its interval, and an amount beside others. */

/** `·····━━●━━···`: the whole width is 0 to 1, the line the interval, the dot the score. */
export function intervalBar(
  { score, lower, upper }: { score: number; lower: number; upper: number },
  width = 32,
): string {
  const cellOf = (share: number) =>
    Math.min(width - 1, Math.max(0, Math.round(share * (width - 1))));
  const [from, at, to] = [cellOf(lower), cellOf(score), cellOf(upper)];
  return Array.from({ length: width }, (_, cell) =>
    cell === at ? "●" : cell >= from && cell <= to ? "━" : "·",
  ).join("");
}

/** A bar as long as its share of the width, in eighths of a cell; what is not nothing is seen. */
export function shareBar(share: number, width = 20): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  if (eighths === 0) return share > 0 ? "▏" : "";
  return "█".repeat(Math.floor(eighths / 8)) + (partial[eighths % 8] ?? "");
}

const heights = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** `▁▂▅█`: a cell for each value, as high as its share of the largest; nothing is a blank. */
export function sparkline(values: readonly number[]): string {
  const most = Math.max(0, ...values);
  return values
    .map((value) => {
      if (value <= 0 || most === 0) return " ";
      return heights[Math.max(0, Math.ceil((value / most) * heights.length) - 1)];
    })
    .join("");
}
