/** Google's older form of schemas, a subset of OpenAPI 3.0, as JSON schema. */

type Schema = Readonly<Record<string, unknown>>;

/** Types are in capitals there, counts may be strings, and `null` is a flag. */
export function toJsonSchema(schema: Schema): Record<string, unknown> {
  const written: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(schema)) {
    const field = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (field === "type" && typeof value === "string") {
      if (value !== "TYPE_UNSPECIFIED") written.type = value.toLowerCase();
    } else if (field === "items" && isObject(value)) written.items = toJsonSchema(value);
    else if (field === "anyOf" && Array.isArray(value)) {
      written.anyOf = value.map((one) => (isObject(one) ? toJsonSchema(one) : one));
    } else if (field === "properties" && isObject(value)) {
      written.properties = Object.fromEntries(
        Object.entries(value).map(([key, one]) => [key, isObject(one) ? toJsonSchema(one) : one]),
      );
    } else if (counts.has(field)) written[field] = Number(value);
    else if (!besides.has(field)) written[field] = value;
  }
  if (schema.nullable === true && typeof written.type === "string") {
    written.type = [written.type, "null"];
    if (Array.isArray(written.enum)) written.enum = [...written.enum, null];
  }
  if (written.format === "enum") delete written.format;
  return written;
}

function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const counts: ReadonlySet<string> = new Set([
  "minItems",
  "maxItems",
  "minLength",
  "maxLength",
  "minProperties",
  "maxProperties",
]);
/** Says how to write, not what is valid, or is told otherwise. */
const besides: ReadonlySet<string> = new Set(["nullable", "propertyOrdering", "example"]);
