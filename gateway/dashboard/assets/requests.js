/** Requests: the latest, what is searched for, each as it is settled, and one in full. */
import { askAll, askJson, follow, KeyRefused, NotAllowed } from "./api.js";
import { byId, dialog, fillSelect, fillTable, warning } from "./dom.js";
import { duration, exactIn, moment, tokenCount, whole } from "./format.js";

const listed = 50;
/** Older rows leave the page while it follows. */
const followedMax = 500;
const reconnectMs = 2000;

/** What the list is searched by. @type {Record<string, string>} */
let search = {};
/** @type {AbortController | undefined} */
let following;
/** @type {any[]} */
let rows = [];
/** @type {import("./app.js").Shell} */
let shell;

/** @param {import("./app.js").Shell} given @returns {import("./app.js").Page} */
export function requestsPage(given) {
  shell = given;
  const form = /** @type {HTMLFormElement} */ (byId("search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void shell.guarded(() => searchRequests(form));
  });
  form.addEventListener("reset", () => {
    search = {};
    again();
  });
  byId("live").addEventListener("click", () => {
    if (following) stopFollowing();
    else void followRequests();
  });
  return { id: "requests", title: "Requests", load, leave: stopFollowing, refreshes: true };
}

async function load() {
  // What is followed comes by itself.
  if (following) return () => {};
  const [found, projects] = await Promise.all([
    askJson("/api/requests", latest()).catch((error) => {
      if (error instanceof NotAllowed) return error;
      throw error;
    }),
    // Without their names ids are as good.
    askAll("/api/projects").catch(() => []),
  ]);
  return () => {
    const refused = found instanceof NotAllowed;
    byId("requests-panel").hidden = refused;
    byId("requests-refused").hidden = !refused;
    if (refused) return;
    fillSelect(byId("search-project"), [
      { value: "", title: "any project" },
      ...projects.map(({ id, name }) => ({ value: id, title: name })),
    ]);
    rows = found.data;
    showRows();
  };
}

function showRows() {
  const exact = exactIn(rows.map((row) => row.cost_usd));
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
    rows,
    { onOpen: (row) => void shell.guarded(() => showDetail(row.id)), none: noneText() },
  );
}

function noneText() {
  if (following) return "Waiting for a request to end.";
  return Object.keys(search).length > 0 ? "No request is like that." : "No request yet.";
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
  again();
}

/** By what is searched now. */
function again() {
  if (following) {
    stopFollowing();
    void followRequests();
  } else shell.reload();
}

/** Each request as it is settled, until the button is pressed again or the page is left. */
async function followRequests() {
  const mine = new AbortController();
  following = mine;
  showFollowing();
  const isMine = () => following === mine;
  while (isMine()) {
    const problem = await followOnce(mine.signal, isMine).catch((error) => error);
    if (!isMine()) return;
    if (problem instanceof KeyRefused) return shell.guarded(() => Promise.reject(problem));
    const isTold = problem && !(problem instanceof TypeError);
    byId("live-note").textContent =
      `${isTold ? problem.message : "The connection is lost."} Trying again…`;
    await new Promise((resolve) => setTimeout(resolve, reconnectMs));
  }
}

/** @param {AbortSignal} signal @param {() => boolean} isMine */
async function followOnce(signal, isMine) {
  const { from, to, ...filters } = search;
  for await (const { event, data } of follow("/api/requests/stream", filters, signal)) {
    if (!isMine()) return;
    switch (event) {
      case "open": {
        // What ended before the stream began, so that nothing is missing between the two.
        const { data: before } = await askJson("/api/requests", latest());
        if (!isMine()) return;
        rows = before;
        byId("live-note").textContent = "New requests appear on top as they end.";
        break;
      }
      case "request":
        rows = [data, ...rows.filter(({ id }) => id !== data.id)].slice(0, followedMax);
        break;
      case "lost":
        byId("live-note").textContent =
          `${whole(data.count)} ended faster than this page could take them, and are not shown.`;
    }
    showRows();
  }
}

function latest() {
  return { limit: String(listed), ...search };
}

function stopFollowing() {
  if (!following) return;
  following.abort();
  following = undefined;
  showFollowing();
}

function showFollowing() {
  const isFollowing = following !== undefined;
  byId("live").setAttribute("aria-pressed", String(isFollowing));
  byId("live").textContent = isFollowing ? "Stop following" : "Follow live";
  byId("requests-title").textContent = isFollowing ? "Live requests" : "Latest requests";
  byId("live-note").textContent = "";
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
  byId("detail-summary").textContent = [
    request.outcome === "ok" ? "ok" : (request.error_code ?? request.outcome),
    request.http_status && `status ${request.http_status}`,
    `project ${request.project_name ?? request.project_id}`,
    `key ${request.key_name ?? request.key_id}`,
    request.end_user && `end user ${request.end_user}`,
    `${moment(request.at)} UTC`,
  ]
    .filter(Boolean)
    .join(" · ");
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
  dialog("detail").showModal();
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
