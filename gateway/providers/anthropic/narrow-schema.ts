/** JSON schemas as Anthropic's structured output takes them: fewer keywords, and no object with unknown members. */

type Schema = Readonly<Record<string, unknown>>;

/**
 * Keywords that it does not enforce are told to the model in the description, so that they are not lost altogether.
 * @returns with the keywords that nothing enforces any more
 * @see https://platform.claude.com/docs/en/build-with-claude/structured-outputs, and the SDK's `transformJSONSchema`
 */
export function narrowSchema(schema: Schema): { schema: Schema; left: string[] } {
  const left = new Set<string>();
  return { schema: narrow(schema, left), left: [...left] };
}

function narrow(schema: unknown, left: Set<string>): Schema {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return {};
  const narrowed = new Map<string, unknown>();
  const untold: string[] = [];
  for (const [keyword, value] of Object.entries(schema)) {
    const kept = keepKeyword(keyword, value, left);
    if (kept) for (const [name, one] of Object.entries(kept)) narrowed.set(name, one);
    else if (!silent.has(keyword)) untold.push(keyword);
  }
  if (isObject(schema as Schema)) {
    const open = (schema as Schema).additionalProperties;
    if (open !== undefined && open !== false) left.add("additionalProperties");
    if (!narrowed.has("$ref")) narrowed.set("additionalProperties", false);
  }
  if (untold.length > 0) {
    const told = untold.map((keyword) => {
      left.add(keyword);
      return `${keyword}: ${JSON.stringify((schema as Schema)[keyword])}`;
    });
    const before = narrowed.get("description");
    const hint = `{${told.join(", ")}}`;
    narrowed.set("description", typeof before === "string" ? `${before}\n\n${hint}` : hint);
  }
  // A member may be called "__proto__", and assigning that would lose it.
  return Object.fromEntries(narrowed);
}

/** The keyword as it goes out, perhaps by another name; `undefined` where it is not known there. */
function keepKeyword(
  keyword: string,
  value: unknown,
  left: Set<string>,
): Record<string, unknown> | undefined {
  switch (keyword) {
    case "type":
    case "title":
    case "description":
    case "enum":
    case "const":
    case "required":
    case "$ref":
    case "default":
      return { [keyword]: value };
    case "properties":
    case "$defs":
    case "definitions":
      return { [keyword]: narrowMembers(value, left) };
    case "items":
      return Array.isArray(value) ? undefined : { items: narrow(value, left) };
    case "anyOf":
    case "allOf":
      return Array.isArray(value)
        ? { [keyword]: value.map((one) => narrow(one, left)) }
        : undefined;
    case "oneOf":
      return Array.isArray(value) ? { anyOf: value.map((one) => narrow(one, left)) } : undefined;
    case "format":
      return formats.has(String(value)) ? { format: value } : undefined;
    case "minItems":
      return value === 0 || value === 1 ? { minItems: value } : undefined;
    default:
      return undefined;
  }
}

function narrowMembers(members: unknown, left: Set<string>): Schema {
  if (typeof members !== "object" || members === null) return {};
  return Object.fromEntries(
    Object.entries(members).map(([name, schema]) => [name, narrow(schema, left)]),
  );
}

function isObject({ type, properties }: Schema): boolean {
  return (
    type === "object" ||
    properties !== undefined ||
    (Array.isArray(type) && type.includes("object"))
  );
}

/** Say nothing about values, or are said again by what is written in their place. */
const silent: ReadonlySet<string> = new Set(["$schema", "$id", "$comment", "additionalProperties"]);
const formats: ReadonlySet<string> = new Set([
  "date-time",
  "time",
  "date",
  "duration",
  "email",
  "hostname",
  "uri",
  "ipv4",
  "ipv6",
  "uuid",
]);
