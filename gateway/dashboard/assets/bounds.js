/** Limits and budgets of a project and its keys: shown, and the project's changed as the reader's role allows. */
import { ask, askAll, askJson, tell } from "./api.js";
import { byId, dialog, fillTable, onSubmit } from "./dom.js";
import { day, money, whole } from "./format.js";

/** @type {import("./app.js").Shell} */
let shell;
/** The project that is shown. @type {any} */
let shown;

const short = [
  { name: "requestsPerMinute", title: "requests a minute" },
  { name: "tokensPerMinute", title: "tokens a minute" },
  { name: "concurrentRequests", title: "at a time" },
];

/** @param {import("./app.js").Shell} given */
export function boundsPanel(given) {
  shell = given;
  byId("change-limits").addEventListener("click", () => {
    for (const { name } of short) input(name).value = shown.limits[name] ?? "";
    open("limits");
  });
  byId("change-spending").addEventListener("click", () => {
    input("limitUsd").value = spendLimitOf(shown)?.limitUsd ?? "";
    open("spending");
  });
  onSubmit("limits-form", "limits-error", changeLimits);
  onSubmit("spending-form", "spending-error", changeSpending);
}

/**
 * @param {string | undefined} projectId absent where no project is chosen
 * @param {import("./roles.js").Rights} rights
 * @returns {Promise<() => void>} how to show what was answered
 */
export async function loadBounds(projectId, rights) {
  if (projectId === undefined) {
    return () => {
      byId("bounds-panel").hidden = true;
    };
  }
  const [project, budgets] = await Promise.all([
    askJson(`/api/projects/${projectId}`),
    askAll("/api/budgets", { project: projectId }),
  ]);
  return () => {
    shown = project;
    byId("bounds-panel").hidden = false;
    byId("change-limits").hidden = project.archived || !rights.bound;
    byId("change-spending").hidden = project.archived || !rights.spend;
    byId("bounds-limits").textContent = `All keys together: ${limitsText(project.limits)}.`;
    showBudgets(budgets);
  };
}

/** @param {any[]} budgets */
function showBudgets(budgets) {
  const of = (/** @type {any} */ it) =>
    [it.scope === "project" ? "the project" : `key ${it.name}`, it.end_user, it.model]
      .filter(Boolean)
      .join(", ");
  fillTable(
    byId("bounds"),
    [
      { title: "Budget of", text: of },
      { title: "Bounds", text: ({ budget }) => budgetText(budget) },
      { title: "Spent", number: true, text: ({ spent_usd: usd }) => money(usd) },
      { title: "Held", number: true, text: ({ held_usd: usd }) => money(usd) },
      { title: "Resets", text: ({ reset_at: at }) => (at ? day(at) : "never") },
    ],
    budgets,
    { none: "No budget yet: what is spent is counted and bounded by nothing." },
  );
}

/** @param {any} limits of a project or a key; undefined where they are not told */
export function limitsText(limits) {
  if (limits === undefined) return null;
  const parts = [
    ...short.flatMap(({ name, title }) =>
      limits[name] === undefined ? [] : [`${whole(limits[name])} ${title}`],
    ),
    ...(limits.rules ?? []).map(ruleText),
  ];
  return parts.join("; ") || "no limits";
}

/** @param {any} rule */
function ruleText({ kind, limit, windowSeconds, each = [], models }) {
  const within =
    kind === "concurrent" ? "requests at a time" : `${kind} in ${whole(windowSeconds)} s`;
  return `${whole(limit)} ${within}${ownersText(each, models)}`;
}

/** @param {any} budget */
function budgetText({ limitUsd, period, everyDays, timeZone, hard, each = [], models }) {
  const length =
    period === "total" ? "in total" : period === "custom" ? `in ${everyDays} days` : `a ${period}`;
  const zone = timeZone && timeZone !== "UTC" ? ` (${timeZone})` : "";
  const soft = hard === false ? ", only told" : "";
  return `${money(limitUsd)} ${length}${zone}${ownersText(each, models)}${soft}`;
}

/** @param {string[]} each @param {string[] | undefined} models */
function ownersText(each, models) {
  const own = each.length > 0 ? `, each ${each.join(" and ")}` : "";
  return own + (models ? `, on ${models.join(", ")}` : "");
}

/** The budget that the organisation's API calls a spend limit. @param {any} project */
function spendLimitOf({ budget, budgets = [] }) {
  return [...(budget ? [budget] : []), ...budgets].find(
    ({ period, timeZone = "UTC", hard = true, each = [], models }) =>
      period === "month" && timeZone === "UTC" && hard && each.length === 0 && !models,
  );
}

/** @param {HTMLFormElement} form */
async function changeLimits(form) {
  const given = new FormData(form);
  const { rules } = shown.limits;
  const numbers = short.flatMap(({ name }) => {
    const text = String(given.get(name)).trim();
    return text === "" ? [] : [[name, Number(text)]];
  });
  await tell("PATCH", `/api/projects/${shown.id}`, {
    limits: { ...Object.fromEntries(numbers), ...(rules && { rules }) },
  });
  close("limits");
}

/** @param {HTMLFormElement} form */
async function changeSpending(form) {
  const path = `/v1/organization/projects/${shown.id}/spend_limit`;
  const usd = String(new FormData(form).get("limitUsd")).trim();
  if (usd !== "") {
    const amount = { threshold_amount: Math.round(Number(usd) * 100) };
    await tell("POST", path, { currency: "USD", interval: "month", ...amount });
  } else if (spendLimitOf(shown)) await ask(path, {}, { method: "DELETE" });
  close("spending");
}

/** @param {string} what */
function open(what) {
  byId(`${what}-of`).textContent = shown.name;
  byId(`${what}-error`).textContent = "";
  dialog(`${what}-dialog`).showModal();
}

/** @param {string} what */
function close(what) {
  dialog(`${what}-dialog`).close();
  shell.reload();
}

/** @param {string} name */
function input(name) {
  return /** @type {HTMLInputElement} */ (byId(`bound-${name}`));
}
