/** JSON schemas as far as Gemini reads them. */

type Schema = Readonly<Record<string, unknown>>;

/**
 * What Gemini does not know it either ignores or refuses, so it is left out and named; `const` is an `enum` of one.
 * @see GenerationConfig.responseJsonSchema, https://ai.google.dev/api/generate-content
 */
export function toGeminiSchema(schema: Schema, dropped: Set<string>): Record<string, unknown> {
  const written: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(schema)) {
    if (single.has(name) && isObject(value)) written[name] = toGeminiSchema(value, dropped);
    else if (lists.has(name) && Array.isArray(value)) {
      written[name] = value.map((one) => (isObject(one) ? toGeminiSchema(one, dropped) : one));
    } else if (maps.has(name) && isObject(value)) {
      written[name === "definitions" ? "$defs" : name] = Object.fromEntries(
        Object.entries(value).map(([key, one]) => [
          key,
          isObject(one) ? toGeminiSchema(one, dropped) : one,
        ]),
      );
    } else if (name === "$ref" && typeof value === "string") {
      written.$ref = value.replace(/^#\/definitions\//, "#/$defs/");
    } else if (name === "const" && (typeof value === "string" || typeof value === "number")) {
      written.enum = [value];
    } else if (kept.has(name)) written[name] = value;
    else if (!silent.has(name)) dropped.add(`schema.${name}`);
  }
  return written;
}

function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const single: ReadonlySet<string> = new Set(["items", "additionalProperties"]);
const lists: ReadonlySet<string> = new Set(["anyOf", "oneOf", "prefixItems"]);
const maps: ReadonlySet<string> = new Set(["properties", "$defs", "definitions"]);
const kept: ReadonlySet<string> = new Set([
  "$id",
  "$anchor",
  "type",
  "format",
  "title",
  "description",
  "enum",
  "minItems",
  "maxItems",
  "minimum",
  "maximum",
  "required",
  "additionalProperties",
  "propertyOrdering",
  // Of the older form of schema, which some write here too.
  "nullable",
]);
/** Says nothing about values. */
const silent: ReadonlySet<string> = new Set(["$schema", "$comment"]);
