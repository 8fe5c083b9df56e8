/** The page: asks for a key once, then shows costs, requests or keys, as its address says. */
import { askJson, KeyRefused, logOut, session, storedKey } from "./api.js";
import { costsPage } from "./costs.js";
import { byId, closeDialogs } from "./dom.js";
import { moment } from "./format.js";
import { keysPage } from "./keys.js";
import { requestsPage } from "./requests.js";

/**
 * What one page of the dashboard is given.
 * @typedef {object} Shell
 * @property {(work: () => Promise<void>) => Promise<void>} guarded an error is told above the page, or at the sign-in
 * @property {() => void} reload asks again for what is shown
 * @property {() => Promise<any>} whoami whose key or session this is
 */

/**
 * @typedef {object} Page
 * @property {string} id
 * @property {string} title
 * @property {boolean} [refreshes] by itself, now and then
 * @property {() => Promise<() => void>} load asks, and tells how to show what was answered
 * @property {() => void} [leave]
 * @property {() => void} [redraw] in other colours
 */

const refreshEveryMs = 20_000;

const state = { load: 0, person: false };
/** @type {Promise<any> | undefined} */
let who;

/** @type {Shell} */
const shell = {
  guarded,
  reload: () => void load(),
  whoami() {
    who ??= askJson("/api/whoami").catch((error) => {
      who = undefined;
      throw error;
    });
    return who;
  },
};
/** @type {Page[]} */
const pages = [costsPage(shell), requestsPage(shell), keysPage(shell)];
let page = pageOfAddress();

start();

function start() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = /** @type {HTMLInputElement} */ (byId("key"));
    storedKey.set(input.value.trim());
    input.value = "";
    signedInAnew();
  });
  byId("forget").addEventListener("click", () => {
    storedKey.forget();
    // Whoever is logged in as well goes on as themselves.
    if (state.person) signedInAnew();
    else showSignIn("");
  });
  byId("theme").addEventListener("click", switchTheme);
  addEventListener("themechange", () => page.redraw?.());
  addEventListener("hashchange", () => {
    page.leave?.();
    page = pageOfAddress();
    if (isSignedIn()) void load();
  });
  setInterval(() => {
    if (page.refreshes && isSignedIn() && !document.hidden) void load();
  }, refreshEveryMs);
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog")?.close());
  }
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
  if (isSignedIn()) void load();
  else showSignIn("");
}

function isSignedIn() {
  return storedKey.get() !== null || state.person;
}

function signedInAnew() {
  who = undefined;
  void load();
}

function pageOfAddress() {
  const id = location.hash.slice(1);
  return /** @type {Page} */ (pages.find((it) => it.id === id) ?? pages[0]);
}

/** Of several loads under way only the last one is shown. */
async function load() {
  state.load += 1;
  const mine = state.load;
  const { id } = page;
  byId(`page-${id}`).setAttribute("aria-busy", "true");
  await guarded(async () => {
    const show = await page.load().catch((error) => {
      if (mine === state.load && !(error instanceof KeyRefused)) showBoard();
      throw error;
    });
    if (mine !== state.load) return;
    showBoard();
    show();
    byId("problem").hidden = true;
    byId("status").textContent =
      `Updated ${moment(new Date().toISOString()).split(" ").at(-1)} UTC`;
  });
  byId(`page-${id}`).removeAttribute("aria-busy");
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
    } else {
      byId("problem").hidden = false;
      byId("problem").textContent = message;
    }
  }
}

/** @param {string} error */
function showSignIn(error) {
  who = undefined;
  page.leave?.();
  closeDialogs();
  byId("board").hidden = true;
  byId("pages").hidden = true;
  byId("forget").hidden = true;
  byId("sign-in").hidden = false;
  byId("key-error").textContent = error;
  byId("status").textContent = "";
  document.title = "Switchyard";
  byId("key").focus();
}

function showBoard() {
  byId("sign-in").hidden = true;
  byId("board").hidden = false;
  byId("pages").hidden = false;
  byId("forget").hidden = storedKey.get() === null;
  for (const { id, title } of pages) {
    const isShown = id === page.id;
    byId(`page-${id}`).hidden = !isShown;
    const link = byId(`to-${id}`);
    if (isShown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (isShown) document.title = `${title} · Switchyard`;
  }
}

function switchTheme() {
  const { dataset } = document.documentElement;
  dataset.theme = dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("switchyard.theme", dataset.theme);
  page.redraw?.();
}
