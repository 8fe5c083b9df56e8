/** The stacked bars, drawn by Chart.js in the page's own colours. */
import { byId } from "./dom.js";
import { bucketLabel, money } from "./format.js";
import { colourOf } from "./series.js";

/** @type {any} */
let chart;

/**
 * @param {string[]} buckets
 * @param {{ name: string, values: number[] }[]} series
 * @param {string[]} named
 */
export function drawChart(buckets, series, named) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  const datasets = series.map(({ name, values }) => ({
    label: name,
    data: values,
    backgroundColor: colour(colourOf(named, name)),
    borderColor: colour("panel"),
    borderWidth: { top: 1 },
    borderRadius: 2,
    maxBarThickness: 46,
  }));
  const text = { color: colour("muted"), font: { size: 11 } };
  const highest = Math.max(
    ...buckets.map((_, at) => series.reduce((sum, it) => sum + (it.values[at] ?? 0), 0)),
  );
  chart?.destroy();
  chart = new window.Chart(byId("chart"), {
    type: "bar",
    data: { labels: buckets.map(bucketLabel), datasets },
    options: {
      maintainAspectRatio: false,
      animation: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: {
          stacked: true,
          grid: { display: false },
          border: { color: colour("line") },
          ticks: { ...text, maxRotation: 0, autoSkipPadding: 12 },
        },
        y: {
          stacked: true,
          border: { display: false },
          grid: { color: colour("line") },
          // Where nothing was charged there is a scale all the same.
          suggestedMax: highest === 0 ? 1 : undefined,
          ticks: {
            ...text,
            maxTicksLimit: 6,
            callback: (/** @type {number} */ usd) => money(String(usd), highest || 1),
          },
        },
      },
      plugins: {
        legend: {
          position: "bottom",
          align: "start",
          labels: {
            ...text,
            boxWidth: 10,
            boxHeight: 10,
            useBorderRadius: true,
            borderRadius: 2,
            padding: 14,
          },
        },
        tooltip: {
          filter: (/** @type {any} */ item) => item.parsed.y > 0,
          callbacks: {
            label: (/** @type {any} */ item) =>
              ` ${item.dataset.label}  ${money(String(item.parsed.y))}`,
            footer: (/** @type {any[]} */ items) =>
              `Total ${money(String(items.reduce((sum, item) => sum + item.parsed.y, 0)))}`,
          },
        },
      },
    },
  });
}
