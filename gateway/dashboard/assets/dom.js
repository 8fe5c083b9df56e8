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
 * Fills a table.
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
    const cells = columns.map((column) => {
      const text = column.text(row);
      const missing = text === null || text === "";
      const classes = [align(column), missing ? "none" : undefined].filter(Boolean).join(" ");
      return make("td", { class: classes || undefined }, missing ? "–" : text);
    });
    const line = make("tr", { class: kind, tabindex: onOpen && !kind ? 0 : undefined }, ...cells);
    if (onOpen && !kind) {
      line.addEventListener("click", () => onOpen(row));
      line.addEventListener("keydown", (event) => {
        if (event.key === "Enter") onOpen(row);
      });
    }
    return line;
  };
  const body = rows.map((row) => toRow(row, undefined));
  if (total) body.push(toRow(total, "total"));
  if (body.length === 0 && none) {
    body.push(make("tr", {}, make("td", { class: "none", colspan: columns.length }, none)));
  }
  table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
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
