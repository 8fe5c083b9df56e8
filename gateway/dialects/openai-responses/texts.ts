/** What rules and counts look at in items of any kind: what passes to OpenAI may hold some that nobody else knows. */
import type { CallTexts } from "../dialect.ts";

type Fields = Readonly<Record<string, unknown>>;

/** @param history items of the responses before */
export function textsOfResponse(
  body: Fields,
  history: readonly unknown[] = [],
): CallTexts & { images: number; documents: number } {
  const { instructions, input, tools, text } = body;
  const given = typeof input === "string" ? [{ role: "user", content: input }] : listOf(input);
  const items = [...history, ...given].map(fieldsOf);
  const above = textIn(instructions);
  const parts = items.flatMap(({ content, output }) => [content, output].flatMap(partsOf));
  const saidBy = (...roles: string[]) =>
    items.filter(({ role }) => roles.some((one) => one === role)).map(itemText);
  return {
    system: [above, ...saidBy("system", "developer")].join("\n"),
    user: saidBy("user").at(-1) ?? "",
    all: [above, ...items.map(itemText)].filter((one) => one !== ""),
    schemas: [tools, fieldsOf(text).format]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
    images: parts.filter(isPicture).length,
    documents: parts.filter(isDocumentElsewhere).length,
  };
}

function itemText(item: Fields): string {
  const { content, summary, arguments: written, input, output } = item;
  return [content, summary, written, input, output].map(textIn).join("");
}

function textIn(value: unknown): string {
  if (typeof value === "string") return value;
  return partsOf(value)
    .map(({ text, refusal }) => [text, refusal].find((one) => typeof one === "string") ?? "")
    .join("");
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
