/** Curves as text: one bar for each point. */

export type Bar = { label: string; value: number; note: string };

/** Lines with a bar each, as long as its value beside the largest. */
export function drawBars(bars: readonly Bar[]): string[] {
  const longest = Math.max(...bars.map(({ value }) => value));
  const labelWidth = Math.max(...bars.map(({ label }) => label.length));
  return bars.map(({ label, value, note }) => {
    const bar = "█".repeat(Math.max(1, Math.round((value / longest) * barWidth)));
    return `${label.padStart(labelWidth)} ${bar.padEnd(barWidth)} ${note}`;
  });
}

const barWidth = 40;
