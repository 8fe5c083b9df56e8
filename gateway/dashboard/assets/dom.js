/** Builds elements. Data becomes text nodes and attributes, never markup. */

/** @param {string} id */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number | undefined>} attributes
 * @param {(Node | string)[]} children
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/**
 * Fills a table. The button that has the keyboard's focus keeps it where its row, known by `id`, is still there.
 * @typedef {{ title: string, number?: boolean, text: (row: any) => string | Node | null }} Column
 * @param {HTMLElement} table
 * @param {Column[]} columns
 * @param {any[]} rows
 * @param {{ total?: any, onOpen?: (row: any) => void, none?: string }} options
 */
export function fillTable(table, columns, rows, { total, onOpen, none } = {}) {
  const align = (/** @type {Column} */ column) => (column.number ? "number" : undefined);
  const head = columns.map((column) =>
    make("th", { scope: "col", class: align(column) }, column.title),
  );
  const toRow = (/** @type {any} */ row, /** @type {string | undefined} */ kind) => {
    const opens = kind ? undefined : onOpen;
    const cells = columns.map((column, index) => {
      const text = column.text(row);
      const missing = text === null || text === "";
      const classes = [align(column), missing ? "none" : undefined].filter(Boolean).join(" ");
      const shown = missing ? "–" : text;
      const content = opens && index === 0 ? make("button", rowButton, shown) : shown;
      return make("td", { class: classes || undefined, "data-title": column.title }, content);
    });
    const classes = [kind, opens && "opens"].filter(Boolean).join(" ");
    const line = make("tr", { class: classes || undefined, "data-id": row.id }, ...cells);
    // A click anywhere in the row is one on its button too.
    if (opens) line.addEventListener("click", () => opens(row));
    return line;
  };
  const body = rows.map((row) => toRow(row, undefined));
  if (total) body.push(toRow(total, "total"));
  if (body.length === 0 && none) {
    body.push(make("tr", {}, make("td", { class: "none", colspan: columns.length }, none)));
  }
  const refocus = keepFocus(table);
  table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  refocus();
}

const rowButton = { type: "button", class: "link" };

/** @param {HTMLElement} table @returns {() => void} to be called once its rows are others */
function keepFocus(table) {
  const focused = document.activeElement;
  const row = focused?.closest("tr");
  if (!row || !table.contains(row)) return () => {};
  const { id } = row.dataset;
  const index = [...row.querySelectorAll("button")].indexOf(
    /** @type {HTMLButtonElement} */ (focused),
  );
  return () => {
    const same = [...table.querySelectorAll("tr")].find((it) => id && it.dataset.id === id);
    same?.querySelectorAll("button")[index]?.focus();
  };
}

/**
 * A row of buttons of which one is pressed.
 * @param {HTMLElement} group
 * @param {{ id: string, title: string }[]} options
 * @param {string} chosen
 * @param {(id: string) => void} onChoose
 */
export function fillChoice(group, options, chosen, onChoose) {
  const buttons = options.map(({ id, title }) => {
    const button = make("button", { type: "button", "aria-pressed": String(id === chosen) }, title);
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      onChoose(id);
    });
    return button;
  });
  group.replaceChildren(...buttons);
}

/** @param {string | number} text */
export function warning(text) {
  return make("span", { class: "warn" }, String(text));
}

/** @param {HTMLElement} select @param {{ value: string, title: string }[]} options */
export function fillSelect(select, options) {
  const { value } = /** @type {HTMLSelectElement} */ (select);
  select.replaceChildren(...options.map((it) => make("option", { value: it.value }, it.title)));
  if (options.some((it) => it.value === value)) {
    /** @type {HTMLSelectElement} */ (select).value = value;
  }
}

/** The button copies the text and says so. @param {HTMLElement} button @param {HTMLElement} source */
export function copyFrom(button, source) {
  const title = button.textContent;
  button.addEventListener("click", async () => {
    const text = source.textContent ?? "";
    // Browsers give pages the clipboard on this machine and by https alone.
    const isCopied = await Promise.resolve(navigator.clipboard?.writeText(text)).then(
      () => navigator.clipboard !== undefined,
      () => false,
    );
    if (!isCopied) getSelection()?.selectAllChildren(source);
    button.textContent = isCopied ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => {
      button.textContent = title;
    }, 2000);
  });
}

/** @param {string} id */
export function dialog(id) {
  return /** @type {HTMLDialogElement} */ (byId(id));
}

export function closeDialogs() {
  for (const open of document.querySelectorAll("dialog[open]")) {
    /** @type {HTMLDialogElement} */ (open).close();
  }
}

/** What the API refuses is told in the dialog. @param {string} id @param {string} errorId @param {(form: HTMLFormElement) => Promise<void>} work */
export function onSubmit(id, errorId, work) {
  const form = /** @type {HTMLFormElement} */ (byId(id));
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button[type=submit]"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // A second click would make a second key.
    button.disabled = true;
    byId(errorId).textContent = "";
    await work(form).catch((error) => {
      byId(errorId).textContent = error.message;
    });
    button.disabled = false;
  });
}
