/** Costs: what was spent in the chosen period, and on what. */
import { ask, askJson, save } from "./api.js";
import { drawChart } from "./chart-view.js";
import { byId, copyFrom, fillChoice, fillTable, make, warning } from "./dom.js";
import { compact, exactIn, money, percent, tokenCount, whole } from "./format.js";
import { bucketsOf, colourOf, namedSeries, nameOf, stack } from "./series.js";

const periods = [
  { id: "24h", title: "24 hours", days: 1 },
  { id: "7d", title: "7 days", days: 7 },
  { id: "30d", title: "30 days", days: 30 },
  { id: "90d", title: "90 days", days: 90 },
];
const dimensions = [
  { id: "model", title: "Model", groups: ["model"] },
  { id: "adapter", title: "Adapter", groups: ["model", "adapter"] },
  { id: "project", title: "Project", groups: ["project"] },
  { id: "team", title: "Team", groups: ["team"] },
  { id: "task", title: "Task", groups: ["task"] },
  { id: "key", title: "Key", groups: ["key"] },
];

const state = { period: "7d", dimension: "model" };
/** @type {(() => void) | undefined} */
let redraw;

/** @param {import("./app.js").Shell} shell @returns {import("./app.js").Page} */
export function costsPage({ guarded, reload }) {
  byId("csv").addEventListener("click", () => void guarded(downloadCsv));
  copyFrom(byId("copy"), byId("curl"));
  fillChoice(byId("periods"), periods, state.period, (id) => {
    state.period = id;
    reload();
  });
  fillChoice(byId("dimensions"), dimensions, state.dimension, (id) => {
    state.dimension = id;
    reload();
  });
  return { id: "costs", title: "Costs", refreshes: true, load, redraw: () => redraw?.() };
}

async function load() {
  const dimension = chosen(dimensions, state.dimension);
  const period = periodOf(chosen(periods, state.period));
  const range = { from: period.from, to: period.to };
  const bucket = period.hourly ? "hour" : "day";
  const [byGroup, overTime] = await Promise.all([
    askJson("/api/reports/costs", { ...range, group_by: dimension.groups.join(",") }),
    askJson("/api/reports/costs", {
      ...range,
      group_by: [bucket, ...dimension.groups].join(","),
    }),
  ]);
  return () => {
    // The chart takes the size of its box, which must be there.
    showEmpty(byGroup.totals.requests === 0);
    showTotals(byGroup.totals);
    showCosts(dimension, period, byGroup, overTime, bucket);
  };
}

/** @param {any} totals */
function showTotals(totals) {
  const { requests, unpriced_requests: unpriced, tokens, cost_usd: cost, saving } = totals;
  const cached = sumWhere(tokens, (meter) => meter.startsWith("cache_read"));
  const output = sumWhere(tokens, (meter) => /^(output|reasoning)/.test(meter));
  const input = sumWhere(tokens, () => true) - output;
  const priced = requests - unpriced;
  byId("cost").textContent = money(cost);
  byId("cost").title = `$${cost}`;
  byId("cost-note").textContent =
    priced > 0 ? `${money(String(Number(cost) / priced))} a priced request` : "no priced request";
  byId("requests").textContent = whole(requests);
  byId("unpriced").textContent =
    unpriced === 0 ? "all of them priced" : `${whole(unpriced)} unpriced`;
  byId("unpriced").className = unpriced === 0 ? "muted" : "warn";
  byId("tokens").textContent = compact(input + output);
  byId("tokens-note").textContent =
    `${compact(input)} in, ${percent(cached, input)} cached; ${compact(output)} out`;
  byId("saving").textContent = saving.requests === 0 ? "–" : money(saving.saving_usd);
  byId("saving-note").textContent =
    saving.requests === 0
      ? "no routed request with a priced default"
      : `of ${money(saving.default_model_cost_usd)} at the default model, ${whole(saving.requests)} requests`;
  const { response_cache: cache } = totals;
  byId("cache").textContent = cache.hits === 0 ? "–" : money(cache.saving_usd);
  byId("cache-note").textContent =
    cache.hits === 0
      ? "no request answered from the response cache"
      : `${whole(cache.hits)} requests, ${percent(cache.hits, requests)}, answered for ${money(cache.cost_usd)}`;
}

/**
 * @param {Record<string, number | null>} tokens
 * @param {(meter: string) => boolean} counts
 */
function sumWhere(tokens, counts) {
  return Object.entries(tokens).reduce(
    (sum, [meter, count]) => sum + (counts(meter) ? (count ?? 0) : 0),
    0,
  );
}

/**
 * @param {{ id: string, title: string }} dimension
 * @param {{ from: string, to: string, hourly: boolean }} period
 * @param {any} byGroup
 * @param {any} overTime
 * @param {string} bucket
 */
function showCosts(dimension, period, byGroup, overTime, bucket) {
  const rows = byGroup.data.map((/** @type {any} */ row) => ({
    ...row,
    name: nameOf(dimension, row),
  }));
  const named = namedSeries(
    rows
      .filter((/** @type {any} */ row) => Number(row.cost_usd) > 0)
      .map((/** @type {any} */ row) => row.name),
  );
  const points = overTime.data.map((/** @type {any} */ row) => ({
    bucket: row[bucket],
    name: nameOf(dimension, row),
    usd: Number(row.cost_usd),
  }));
  const title = dimension.title.toLowerCase();
  byId("chart-title").textContent = `Cost by ${title}, per ${bucket}`;
  byId("share-title").textContent = `Share by ${title}`;
  byId("breakdown-title").textContent = `Costs by ${title}`;
  redraw = () => {
    const buckets = bucketsOf(period);
    drawChart(buckets, stack(points, buckets, named), named);
  };
  redraw();
  showShare(rows, named, Number(byGroup.totals.cost_usd));
  const exact = exactIn([byGroup.totals, ...rows].map((row) => row.cost_usd));
  const unknownCost = (/** @type {any} */ row) =>
    row.requests > 0 && row.requests === row.unpriced_requests;
  fillTable(
    byId("breakdown"),
    [
      { title: dimension.title, text: (row) => row.name },
      { title: "Requests", number: true, text: (row) => whole(row.requests) },
      {
        title: "Unpriced",
        number: true,
        text: (row) => (row.unpriced_requests ? warning(row.unpriced_requests) : null),
      },
      { title: "Input", number: true, text: (row) => tokenCount(row.tokens.input) },
      { title: "Cached", number: true, text: (row) => tokenCount(row.tokens.cache_read) },
      { title: "Output", number: true, text: (row) => tokenCount(row.tokens.output) },
      { title: "Reasoning", number: true, text: (row) => tokenCount(row.tokens.reasoning) },
      {
        title: "Cost (USD)",
        number: true,
        text: (row) => (unknownCost(row) ? warning("unpriced") : exact(row.cost_usd)),
      },
    ],
    rows,
    { total: rows.length > 1 ? { ...byGroup.totals, name: "Total" } : undefined },
  );
}

/** @param {any[]} rows @param {string[]} named @param {number} total */
function showShare(rows, named, total) {
  const lines = named.map((name) => {
    const usd = rows
      .filter((row) => row.name === name)
      .reduce((sum, row) => sum + Number(row.cost_usd), 0);
    return { name, usd };
  });
  const rest = total - lines.reduce((sum, { usd }) => sum + usd, 0);
  if (rows.length > named.length && rest > total * 1e-9) lines.push({ name: "other", usd: rest });
  if (lines.length === 0) {
    byId("share").replaceChildren(make("p", { class: "muted" }, "Nothing was charged."));
    return;
  }
  byId("share").replaceChildren(
    ...lines.map(({ name, usd }) =>
      make(
        "div",
        { class: `share-row ${colourOf(named, name)}` },
        make("span", { class: "share-name", title: name }, name),
        make("span", { class: "share-value" }, percent(usd, total)),
        make("progress", { max: 1, value: total === 0 ? 0 : usd / total, "aria-label": name }),
      ),
    ),
  );
}

/** @param {boolean} empty */
function showEmpty(empty) {
  byId("empty").hidden = !empty;
  byId("figures").hidden = empty;
  byId("curl").textContent = [
    `curl ${location.origin}/v1/chat/completions \\`,
    '  -H "Authorization: Bearer $SWITCHYARD_API_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    `  -d '{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ].join("\n");
}

async function downloadCsv() {
  const { from, to, hourly } = periodOf(chosen(periods, state.period));
  const { groups } = chosen(dimensions, state.dimension);
  const group_by = [hourly ? "hour" : "day", ...groups].join(",");
  await save(await ask("/api/reports/costs", { from, to, group_by, format: "csv" }));
}

/** Whole days, today included; 24 hours end with the hour under way. @param {{ days: number }} period */
function periodOf({ days }) {
  const hourly = days === 1;
  const step = hourly ? 3_600_000 : 86_400_000;
  const end = Math.floor(Date.now() / step + 1) * step;
  const from = end - days * 86_400_000;
  return { from: new Date(from).toISOString(), to: new Date(end).toISOString(), hourly };
}

/** @template {{ id: string }} T @param {T[]} options @param {string} id @returns {T} */
function chosen(options, id) {
  const option = options.find((it) => it.id === id);
  if (!option) throw new Error(`no option ${id}`);
  return option;
}
