/** Keys: of each project that the reader sees, and the reader's own; made, rotated and revoked as their role allows. */
import { askAll, tell } from "./api.js";
import { boundsPanel, limitsText, loadBounds } from "./bounds.js";
import { byId, copyFrom, dialog, fillSelect, fillTable, make, onSubmit, warning } from "./dom.js";
import { day, moment } from "./format.js";
import { rightsOver, rightsOverAdminKeys, stateOf } from "./roles.js";

/** What is chosen in place of a project. */
const own = "own";
const admins = "admins";
const adminKeys = "/v1/organization/admin_api_keys";

/** @type {import("./app.js").Shell} */
let shell;
/** What is chosen, as the last load saw it. @type {{ of: string, title: string, keys: any[], rights: import("./roles.js").Rights }} */
let shown = { of: "", title: "", keys: [], rights: rightsOver({}, "") };

/** @param {import("./app.js").Shell} given @returns {import("./app.js").Page} */
export function keysPage(given) {
  shell = given;
  boundsPanel(given);
  byId("keys-of").addEventListener("change", () => {
    // What is shown is still of another project, and so would a key be that is made now.
    byId("new-key").hidden = true;
    shell.reload();
  });
  byId("keys-ended").addEventListener("change", showKeys);
  byId("new-key").addEventListener("click", () => {
    const form = /** @type {HTMLFormElement} */ (byId("make-key"));
    form.reset();
    byId("make-error").textContent = "";
    byId("make-title").textContent = titleOfNew();
    byId("make-scopes").hidden = shown.of === admins;
    dialog("make-dialog").showModal();
  });
  onSubmit("make-key", "make-error", makeKey);
  onSubmit("rotate-key", "rotate-error", rotateKey);
  onSubmit("revoke-key", "revoke-error", revokeKey);
  copyFrom(byId("copy-secret"), byId("secret"));
  // Not by accident: the text is shown this once.
  dialog("secret-dialog").addEventListener("cancel", (event) => event.preventDefault());
  dialog("secret-dialog").addEventListener("close", () => {
    byId("secret").textContent = "";
    byId("secret-try").textContent = "";
  });
  return { id: "keys", title: "Keys", load };
}

function titleOfNew() {
  switch (shown.of) {
    case own:
      return "Create a key of your own";
    case admins:
      return "Create an admin key";
    default:
      return `Create a key for '${shown.title}'`;
  }
}

async function load() {
  const who = await shell.whoami();
  const projects = await askAll("/api/projects");
  const seen = projects.filter(({ id }) => {
    const { list, spend } = rightsOver(who, id);
    return list || spend;
  });
  const choices = [
    ...seen.map(({ id, name, archived }) => ({
      value: id,
      title: archived ? `${name} (archived)` : name,
    })),
    ...(who.user ? [{ value: own, title: "My own keys" }] : []),
    ...(rightsOverAdminKeys(who).list ? [{ value: admins, title: "Admin keys" }] : []),
  ];
  const chosen = selectOf("keys-of").value;
  const { value: of, title } = choices.find(({ value }) => value === chosen) ?? choices[0] ?? {};
  const rights = rightsIn(who, of);
  const [keys, showBounds] = await Promise.all([
    of !== undefined && rights.list ? keysOf(of, who) : [],
    loadBounds([own, admins].includes(of ?? own) ? undefined : of, rights),
  ]);
  return () => {
    showBounds();
    fillSelect(byId("keys-of"), choices);
    if (of !== undefined) selectOf("keys-of").value = of;
    byId("keys-controls").hidden = of === undefined;
    byId("keys-panel").hidden = !rights.list;
    byId("keys-none").hidden = of !== undefined;
    byId("new-key").hidden = !rights.make;
    byId("keys-note").textContent = noteOf(who, of, rights);
    byId("make-project-field").hidden = of !== own;
    if (who.user) {
      fillSelect(
        byId("make-project"),
        who.user.projects.map((/** @type {any} */ it) => ({ value: it.id, title: it.name })),
      );
    }
    byId("make-forever").textContent = of === own ? "as late as the project allows" : "never";
    shown = { of: of ?? "", title: title ?? "", keys, rights };
    showKeys();
  };
}

/** @param {any} who @param {string | undefined} of */
function rightsIn(who, of) {
  if (of === admins) return rightsOverAdminKeys(who);
  if (of !== own) return rightsOver(who, of ?? "");
  const make = who.user.projects.length > 0;
  return { list: true, make, rotate: true, revoke: true, bound: false, spend: false };
}

/** Newest first. @param {string} of @param {any} who */
async function keysOf(of, who) {
  if (of === admins) return (await askAll(adminKeys)).map(fromOrganization).toReversed();
  const keys = await (of === own ? askAll("/api/me/keys") : keysOfProject(of, who));
  return keys.toReversed();
}

/** @param {string} projectId @param {any} who */
async function keysOfProject(projectId, who) {
  if (!rightsOver({ ...who, user: who.user && { ...who.user, projects: [] } }, projectId).list) {
    // An owner of the project with no such role in the organisation is told less.
    const told = await askAll(`/v1/organization/projects/${projectId}/api_keys`);
    return told.map(fromOrganization);
  }
  return askAll("/api/keys", { projectId });
}

/** A key as OpenAI's admin API tells it. @param {any} key */
function fromOrganization(key) {
  const iso = (/** @type {number | null} */ seconds) =>
    seconds === null ? undefined : new Date(seconds * 1000).toISOString();
  const { user, service_account: account } = key.owner;
  return {
    id: key.id,
    name: key.name,
    redacted: key.redacted_value,
    createdAt: iso(key.created_at),
    lastUsedAt: iso(key.last_used_at),
    expiresAt: iso(key.expires_at),
    suspendedAt: key.owner_project_access === "inactive" ? "unknown" : undefined,
    ownerName: user?.email ?? user?.name ?? account?.name,
    limits: undefined,
    scopes: null,
  };
}

/** @param {any} who @param {string | undefined} of @param {import("./roles.js").Rights} rights */
function noteOf(who, of, rights) {
  if (of === own) {
    return rights.make
      ? "These keys are yours alone, and end with your membership of their project."
      : "You are a member of no project yet. An owner of one, or an administrator, can make you one; then you make keys of your own here.";
  }
  if (of === admins) return "An admin key manages everything and runs no models.";
  return rights.make || !who.user
    ? ""
    : `Your role is '${who.user.role}': ${rights.revoke ? "owners make and rotate keys" : "owners make, rotate and revoke keys"} of a project.`;
}

function showKeys() {
  const withEnded = /** @type {HTMLInputElement} */ (byId("keys-ended")).checked;
  const nowMs = Date.now();
  const ended = ["revoked", "expired"];
  const keys = shown.keys.filter((key) => withEnded || !ended.includes(stateOf(key, nowMs)));
  const { rights } = shown;
  const acts = rights.rotate || rights.revoke;
  fillTable(
    byId("keys"),
    [
      { title: "Key", text: (key) => make("code", { class: "whole" }, key.redacted ?? "***") },
      { title: "Name", text: ({ name }) => name },
      { title: "May use", text: ({ scopes }) => scopesText(scopes) },
      { title: "Limits", text: ({ limits }) => limitsText(limits) },
      { title: "Created", text: ({ createdAt }) => day(createdAt) },
      { title: "Last used", text: ({ lastUsedAt }) => (lastUsedAt ? moment(lastUsedAt) : "never") },
      { title: "Expires", text: ({ expiresAt }) => (expiresAt ? day(expiresAt) : "never") },
      { title: "Owner", text: ({ ownerName, ownerId }) => ownerName ?? ownerId ?? null },
      { title: "State", text: (key) => stateText(key, nowMs) },
      ...(acts ? [{ title: "Change", text: (/** @type {any} */ key) => actions(key, nowMs) }] : []),
    ],
    keys,
    { none: shown.keys.length > keys.length ? "All keys have ended." : "No key yet." },
  );
}

/** @param {any} key @param {number} nowMs */
function stateText(key, nowMs) {
  const state = stateOf(key, nowMs);
  switch (state) {
    case "active":
      return state;
    case "rotating":
      return `active; old text until ${moment(key.previousUntil)}`;
    default:
      return warning(state);
  }
}

/** @param {any} scopes null where it is not told */
function scopesText(scopes) {
  if (scopes === null) return null;
  const parts = Object.entries(scopes ?? {}).map(
    ([what, names]) => `${what}: ${/** @type {string[]} */ (names).join(", ")}`,
  );
  return parts.join("; ") || "everything";
}

/** @param {any} key @param {number} nowMs */
function actions(key, nowMs) {
  const state = stateOf(key, nowMs);
  if (state === "revoked" || state === "expired") return null;
  const { rights } = shown;
  return make(
    "span",
    { class: "actions whole" },
    ...(rights.rotate ? [action("Rotate", key, "rotate")] : []),
    ...(rights.revoke ? [action("Revoke", key, "revoke")] : []),
  );
}

/** @param {string} title @param {any} key @param {"rotate" | "revoke"} what */
function action(title, key, what) {
  const button = make("button", { type: "button", "aria-label": `${title} ${key.name}` }, title);
  button.addEventListener("click", () => {
    byId(`${what}-key`).dataset.id = key.id;
    byId(`${what}-name`).textContent = `${key.name} (${key.redacted ?? "***"})`;
    byId(`${what}-error`).textContent = "";
    dialog(`${what}-dialog`).showModal();
  });
  return button;
}

/** @param {HTMLFormElement} form */
async function makeKey(form) {
  const given = Object.fromEntries(
    [...new FormData(form)].map(([name, value]) => [name, String(value).trim()]),
  );
  const scopes = Object.fromEntries(
    ["models", "endpoints", "addresses"].flatMap((what) => {
      const names = (given[what] ?? "").split(",").flatMap((name) => name.trim() || []);
      return names.length > 0 ? [[what, names]] : [];
    }),
  );
  const isOwn = shown.of === own;
  const limits = Object.fromEntries(
    ["requestsPerMinute", "tokensPerMinute"].flatMap((what) =>
      given[what] ? [[what, Number(given[what])]] : [],
    ),
  );
  const budgets = given.limitUsd ? [{ limitUsd: given.limitUsd, period: "month" }] : undefined;
  const created = await tell("POST", isOwn ? "/api/me/keys" : "/api/keys", {
    name: given.name,
    ...(shown.of === admins
      ? { role: "admin" }
      : { projectId: isOwn ? given.project : shown.of, limits, ...(budgets && { budgets }) }),
    ...(given.days && { expiresInSeconds: Number(given.days) * 86_400 }),
    ...(Object.keys(scopes).length > 0 && { scopes }),
  });
  dialog("make-dialog").close();
  showSecret(created, "It is ready to be used.");
}

/** @param {HTMLFormElement} form */
async function rotateKey(form) {
  const overlapSeconds = Number(new FormData(form).get("overlap"));
  const rotated = await tell("POST", `${pathOf(form)}/rotate`, { overlapSeconds });
  dialog("rotate-dialog").close();
  const { previousUntil } = rotated;
  showSecret(
    rotated,
    previousUntil
      ? `The old text goes on until ${moment(previousUntil)} UTC.`
      : "The old text has ended.",
  );
}

/** @param {HTMLFormElement} form */
async function revokeKey(form) {
  // Administrators and owners of a project revoke its keys there; who made it is not asked.
  const { id } = form.dataset;
  const ofProject = `/v1/organization/projects/${shown.of}/api_keys/${id}`;
  const path = shown.of === admins ? `${adminKeys}/${id}` : ofProject;
  await tell("DELETE", shown.of === own ? pathOf(form) : path);
  dialog("revoke-dialog").close();
  shell.reload();
}

/** @param {HTMLFormElement} form */
function pathOf(form) {
  return `${shown.of === own ? "/api/me/keys" : "/api/keys"}/${form.dataset.id}`;
}

/** @param {any} key @param {string} note */
function showSecret({ name, key }, note) {
  byId("secret-title").textContent = `The key '${name}'`;
  byId("secret-note").textContent = note;
  byId("secret").textContent = key;
  const path = shown.of === admins ? "/api/projects" : "/v1/models";
  byId("secret-try").textContent =
    `curl ${location.origin}${path} -H "Authorization: Bearer ${key}"`;
  dialog("secret-dialog").showModal();
  shell.reload();
}

/** @param {string} id */
function selectOf(id) {
  return /** @type {HTMLSelectElement} */ (byId(id));
}
