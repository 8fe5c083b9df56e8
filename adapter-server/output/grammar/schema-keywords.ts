/** Which keywords of JSON Schema are kept, which say nothing about values, and that all others are refused. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { Schema } from "./schema.ts";

/** @throws HubError `unsupported_parameter` that names the first keyword which would not be kept */
export function refuseUnknownKeywords(schema: Schema, at: string, isRoot: boolean): void {
  for (const [keyword, value] of Object.entries(schema)) {
    if (kept.has(keyword) || annotations.has(keyword) || keyword.startsWith("x-")) continue;
    if (isRoot && rootAnnotations.has(keyword)) continue;
    if (harmless.get(keyword)?.(value)) continue;
    throw new HubError(
      "unsupported_parameter",
      `The JSON schema's '${at}.${keyword.slice(0, 100)}' is not supported: its answers could not be kept to it.`,
      { param: `${at}.${keyword.slice(0, 100)}` },
    );
  }
}

/** The keywords of a schema that assert something of values of one type. */
export function keywordsOfTypes(schema: Schema): string[] {
  return Object.keys(schema).filter((keyword) => typed.has(keyword) || keyword === "type");
}

/** Types that each keyword speaks of; values of other types pass it. */
export const typed: ReadonlyMap<string, string> = new Map(
  Object.entries({
    properties: "object",
    required: "object",
    additionalProperties: "object",
    unevaluatedProperties: "object",
    minProperties: "object",
    maxProperties: "object",
    prefixItems: "array",
    items: "array",
    minItems: "array",
    maxItems: "array",
    uniqueItems: "array",
    minLength: "string",
    maxLength: "string",
    pattern: "string",
    format: "string",
    minimum: "number",
    maximum: "number",
    exclusiveMinimum: "number",
    exclusiveMaximum: "number",
    multipleOf: "number",
  }),
);

const kept: ReadonlySet<string> = new Set([
  ...typed.keys(),
  ...["type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"],
]);

const annotations: ReadonlySet<string> = new Set([
  ...[
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
  ],
  ...["$comment", "$defs", "definitions", "contentMediaType", "contentEncoding", "discriminator"],
]);

/** Deeper in a schema they would change what references mean. */
const rootAnnotations: ReadonlySet<string> = new Set(["$schema", "$id"]);

/** Keywords, and values of them that every value passes. */
const harmless: ReadonlyMap<string, (value: unknown) => boolean> = new Map(
  Object.entries({
    patternProperties: isEmpty,
    dependentRequired: isEmpty,
    dependentSchemas: isEmpty,
    propertyNames: (value: unknown) => value === true || isEmpty(value),
    unevaluatedItems: (value: unknown) => value === true,
    nullable: (value: unknown) => value === false,
  }),
);

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

const date =
  "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))";
const hour = "(?:[01][0-9]|2[0-3])";
const time = `${hour}:[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-]${hour}:[0-5][0-9])`;
const label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?";
const host = `(?:${label}\\.){0,4}${label}`;
const byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

/** Formats as regular expressions; a part of each format, all of it valid. */
export const formats: ReadonlyMap<string, string> = new Map(
  Object.entries({
    date,
    time,
    "date-time": `${date}T${time}`,
    duration: `P(?:[0-9]{1,4}W|[0-9]{1,4}D(?:T[0-9]{1,4}H)?|T[0-9]{1,4}[HMS]|[0-9]{1,4}Y|[0-9]{1,4}M)`,
    email: `[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,32}){0,2}@${label}\\.(?:${label}\\.)?[A-Za-z]{2,12}`,
    hostname: host,
    ipv4: `${byte}(?:\\.${byte}){3}`,
    ipv6: "[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}",
    uri: `https?://${host}(?:/[A-Za-z0-9._~-]*)*`,
    uuid: `[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}`,
  }).map(([name, source]) => [name, `^(?:${source})$`]),
);
