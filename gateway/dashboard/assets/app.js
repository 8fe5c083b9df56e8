/** The page: asks for a key once, then shows what was spent in the chosen period, and on what. */
import { ask, askJson, KeyRefused, logOut, save, session, storedKey } from "./api.js";
import { drawChart } from "./chart-view.js";
import { byId, fillChoice, fillTable, make } from "./dom.js";
import { compact, duration, moment, money, percent, whole } from "./format.js";
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
const refreshEveryMs = 20_000;

const state = { period: "7d", dimension: "model", load: 0, person: false };
/** What the latest requests are searched by. @type {Record<string, string>} */
let search = {};
/** @type {(() => void) | undefined} */
let redraw;

start();

function start() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = /** @type {HTMLInputElement} */ (byId("key"));
    storedKey.set(input.value.trim());
    input.value = "";
    void load();
  });
  byId("forget").addEventListener("click", () => {
    storedKey.forget();
    showSignIn("");
  });
  byId("theme").addEventListener("click", switchTheme);
  byId("close").addEventListener("click", () => dialog().close());
  byId("csv").addEventListener("click", () => void guarded(downloadCsv));
  byId("copy").addEventListener("click", () => {
    void navigator.clipboard.writeText(byId("curl").textContent ?? "");
  });
  const form = /** @type {HTMLFormElement} */ (byId("search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void guarded(() => searchRequests(form));
  });
  form.addEventListener("reset", () => {
    search = {};
    void load();
  });
  addEventListener("themechange", () => redraw?.());
  fillChoice(byId("periods"), periods, state.period, (id) => {
    state.period = id;
    void load();
  });
  fillChoice(byId("dimensions"), dimensions, state.dimension, (id) => {
    state.dimension = id;
    void load();
  });
  setInterval(() => {
    if ((storedKey.get() || state.person) && !document.hidden) void load();
  }, refreshEveryMs);
  byId("log-in").addEventListener("click", () => location.assign("/auth/login"));
  byId("logout").addEventListener("click", async () => {
    await logOut();
    location.reload();
  });
  void begin();
}

/** A key that this tab has goes before whoever is logged in. */
async function begin() {
  const { enabled, user } = await session().catch(() => ({ enabled: false, user: null }));
  byId("log-in").hidden = !enabled;
  byId("logout").hidden = !user;
  state.person = Boolean(user);
  byId("person").textContent = user
    ? `${user.email ?? user.name ?? "logged in"} (${user.role})`
    : "";
  if (storedKey.get() || user) void load();
  else showSignIn("");
}

/** Of several loads under way only the last one is shown. */
async function load() {
  state.load += 1;
  const mine = state.load;
  const dimension = chosen(dimensions, state.dimension);
  const period = periodOf(chosen(periods, state.period));
  byId("figures").setAttribute("aria-busy", "true");
  await guarded(async () => {
    const range = { from: period.from, to: period.to };
    const bucket = period.hourly ? "hour" : "day";
    const [byGroup, overTime, requests] = await Promise.all([
      askJson("/api/reports/costs", { ...range, group_by: dimension.groups.join(",") }),
      askJson("/api/reports/costs", {
        ...range,
        group_by: [bucket, ...dimension.groups].join(","),
      }),
      askJson("/api/requests", { limit: "15", ...search }).catch((error) => {
        // Not every role may see single requests.
        if (state.person && !storedKey.get()) return { data: [] };
        throw error;
      }),
    ]);
    if (mine !== state.load) return;
    showBoard();
    showTotals(byGroup.totals);
    showCosts(dimension, period, byGroup, overTime, bucket);
    showLatest(requests.data);
    showEmpty(byGroup.totals.requests === 0);
    byId("status").textContent =
      `Updated ${moment(new Date().toISOString()).split(" ").at(-1)} UTC`;
  });
  byId("figures").removeAttribute("aria-busy");
}

/** @param {() => Promise<void>} work */
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof KeyRefused) {
      storedKey.forget();
      showSignIn(message);
    } else byId("status").textContent = message;
  }
}

/** @param {string} error */
function showSignIn(error) {
  byId("board").hidden = true;
  byId("forget").hidden = true;
  byId("sign-in").hidden = false;
  byId("key-error").textContent = error;
  byId("status").textContent = "";
  byId("key").focus();
}

function showBoard() {
  byId("sign-in").hidden = true;
  byId("board").hidden = false;
  byId("forget").hidden = storedKey.get() === null;
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

/** @param {any[]} requests */
function showLatest(requests) {
  const exact = exactIn(requests.map((row) => row.cost_usd));
  fillTable(
    byId("latest"),
    [
      { title: "Time", text: (row) => moment(row.at) },
      { title: "Project", text: (row) => row.project_name },
      { title: "Task", text: (row) => row.task },
      { title: "Route", text: (row) => row.route },
      { title: "Model", text: (row) => servedModel(row) },
      { title: "Tokens", number: true, text: (row) => tokenCount(sumOf(row.tokens)) },
      {
        title: "Cost (USD)",
        number: true,
        text: (row) => (row.pricing === "unpriced" ? warning("unpriced") : exact(row.cost_usd)),
      },
      { title: "Latency", number: true, text: (row) => duration(row.duration_ms) },
      {
        title: "Outcome",
        text: (row) => (row.outcome === "ok" ? "ok" : warning(row.error_code ?? row.outcome)),
      },
    ],
    requests,
    { onOpen: (row) => void guarded(() => showDetail(row.id)), none: "No request yet." },
  );
}

/** One request by its id, or those that are left of the latest. @param {HTMLFormElement} form */
async function searchRequests(form) {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  const { id, from, to, ...equal } = Object.fromEntries(
    given.map(([name, value]) => [name, String(value).trim()]),
  );
  if (id) return showDetail(id);
  search = {
    ...equal,
    ...(from && { from: new Date(`${from}Z`).toISOString() }),
    ...(to && { to: new Date(`${to}Z`).toISOString() }),
  };
  await load();
}

/** @param {any} request */
function offerContent({ id, content }) {
  byId("detail-content").hidden = !content;
  byId("content-text").hidden = true;
  byId("content-text").textContent = "";
  byId("content-note").textContent = content
    ? `Kept until ${moment(content.expires_at)} UTC. The audit log tells who reads it.`
    : "";
  byId("show-content").onclick = async () => {
    const { prompt, answer, redacted, truncated, complete } = await askJson(
      `/api/requests/${encodeURIComponent(id)}/content`,
    ).catch((error) => {
      byId("content-note").textContent = error.message;
      return {};
    });
    if (prompt === undefined) return;
    byId("content-note").textContent = "This was noted in the audit log.";
    byId("content-text").hidden = false;
    byId("content-text").textContent = JSON.stringify(
      { prompt, answer, redacted, truncated, complete },
      null,
      2,
    );
  };
}

/** @param {string} id */
async function showDetail(id) {
  const request = await askJson(`/api/requests/${encodeURIComponent(id)}`);
  byId("detail-title").textContent =
    `${request.id} · ${servedModel(request) ?? request.requested_model}`;
  const exact = exactIn(request.entries.map((/** @type {any} */ entry) => entry.amount_usd));
  fillTable(
    byId("detail-entries"),
    [
      { title: "Account", text: (entry) => entry.account },
      { title: "Meter", text: (entry) => entry.meter },
      {
        title: "Quantity",
        number: true,
        text: (entry) => (entry.quantity === null ? null : whole(entry.quantity)),
      },
      { title: "Amount (USD)", number: true, text: (entry) => exact(entry.amount_usd) },
      { title: "Price", text: (entry) => entry.price_id },
    ],
    request.entries,
    { none: request.pricing === "unpriced" ? "Unpriced: no entries." : "Nothing was charged." },
  );
  offerContent(request);
  byId("detail-timings").textContent =
    Object.entries(request.timings ?? {})
      .map(([part, ms]) => `${part} ${Number(ms).toFixed(2)} ms`)
      .join(" · ") || "not kept";
  byId("detail-decision").textContent = JSON.stringify(request.decision, null, 2);
  dialog().showModal();
}

function dialog() {
  return /** @type {HTMLDialogElement} */ (byId("detail"));
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

function switchTheme() {
  const { dataset } = document.documentElement;
  dataset.theme = dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("switchyard.theme", dataset.theme);
  redraw?.();
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

/** @param {any} row */
function servedModel(row) {
  if (row.model === null) return null;
  return row.adapter === null
    ? row.model
    : `${row.model}:${row.adapter}@${row.adapter_version ?? "?"}`;
}

/** @param {Record<string, number | null>} tokens */
function sumOf(tokens) {
  const known = Object.values(tokens).filter((count) => count !== null);
  return known.length === 0 ? null : known.reduce((sum, count) => sum + (count ?? 0), 0);
}

/** @param {number | null} count */
function tokenCount(count) {
  return count === null ? null : whole(count);
}

/**
 * Every decimal there is, and as many for each row of a column, so that the points stand in line.
 * @param {(string | null)[]} column
 * @returns {(usd: string | null) => string | null}
 */
function exactIn(column) {
  const places = Math.max(2, ...column.map((usd) => usd?.split(".")[1]?.length ?? 0));
  return (usd) => {
    if (usd === null) return null;
    const [dollars, decimals = ""] = usd.split(".");
    return `${dollars}.${decimals.padEnd(places, "0")}`;
  };
}

/** @param {string | number} text */
function warning(text) {
  return make("span", { class: "warn" }, String(text));
}
