/** What rules and counts look at in items of any kind: what passes to OpenAI may hold some that nobody else knows. */
import type { CallTexts } from "../dialect.ts";
import { type Reading, readText, together, unread, unreadBytes } from "../reading.ts";

type Fields = Readonly<Record<string, unknown>>;

/** @param history items of the responses before */
export function textsOfResponse(
  body: Fields,
  history: readonly unknown[] = [],
): CallTexts & { images: number; documents: number } {
  const { instructions, input, tools, text } = body;
  const given = typeof input === "string" ? [{ role: "user", content: input }] : listOf(input);
  const items = [...history, ...given].map(fieldsOf);
  const above = readParts(instructions);
  const read = items.map(readItem);
  const parts = items.flatMap(({ content, output }) => [content, output].flatMap(partsOf));
  const saidBy = (...roles: string[]) =>
    read.filter((_, at) => roles.some((one) => one === items[at]?.role)).map(({ text }) => text);
  return {
    system: [above.text, ...saidBy("system", "developer")].join("\n"),
    user: saidBy("user").at(-1) ?? "",
    all: [above, ...read].map(({ text }) => text).filter((one) => one !== ""),
    schemas: [tools, fieldsOf(text).format]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
    unread: () => unreadBytes([above, ...read]),
    images: parts.filter(isPicture).length,
    documents: parts.filter(isDocumentElsewhere).length,
  };
}

function readItem(item: Fields): Reading {
  const { type: _type, role: _role, id: _id, call_id: _callId, status: _status, ...said } = item;
  const { content, summary, arguments: written, input, output, ...rest } = said;
  const parts = [content, summary, written, input, output].map(readParts);
  return together([...parts, unread(...Object.values(rest))], "");
}

/** Pictures, and documents that lie elsewhere, are counted apart. */
function readParts(value: unknown): Reading {
  if (typeof value === "string") return readText(value);
  const read = partsOf(value).map((part) => {
    if (isPicture(part) || isDocumentElsewhere(part)) return readText();
    const { text, refusal } = part;
    const said = [text, refusal].find((one) => typeof one === "string");
    return said === undefined && Object.keys(part).length > 0 ? unread(part) : readText(said);
  });
  return together(read, "");
}

/** A list of parts, or one that stands alone, as a screenshot does. */
function partsOf(value: unknown): Fields[] {
  return (Array.isArray(value) ? value : [value]).map(fieldsOf);
}

function isPicture({ type }: Fields): boolean {
  return type === "input_image" || type === "computer_screenshot";
}

function isDocumentElsewhere({ type, file_id, file_url }: Fields): boolean {
  return type === "input_file" && (file_id != null || file_url != null);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}
