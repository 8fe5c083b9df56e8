/** JSON Schemas as objects: references, unions and what several schemas say together. */
import { isDeepStrictEqual } from "node:util";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { typed } from "./schema-keywords.ts";

export type Schema = Readonly<Record<string, unknown>>;
/** What is left of the work that joining and comparing a request's schemas may take. */
export type SchemaWork = { left: number };
/** Where references begin. */
type Place = { root: unknown; rootAt: string; work: SchemaWork };
type Located = { schema: Schema; at: string };

export function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Types of values that a schema speaks of: those it names, else those that its keywords assert something of, else all. */
export function typesOf(schema: Schema, at: string): readonly string[] {
  if (schema.type !== undefined) {
    const types = [schema.type].flat();
    const isList = types.length > 0 && types.length <= allTypes.length;
    if (!isList || types.some((type) => !allTypes.includes(String(type)))) {
      throw problem("invalid_value", `${at}.type`, "names no type");
    }
    // Every integer is a number.
    const all = new Set(types.map(String));
    return [...all].filter((type) => type !== "integer" || !all.has("number"));
  }
  const asserted = Object.keys(schema).flatMap((keyword) => typed.get(keyword) ?? []);
  return asserted.length > 0
    ? [...new Set(asserted)]
    : allTypes.filter((type) => type !== "integer");
}

/**
 * What `$ref` points at within the document; others are never fetched.
 * @throws HubError `unsupported_parameter`, `invalid_value`
 */
export function follow(
  ref: unknown,
  at: string,
  { root, rootAt }: Pick<Place, "root" | "rootAt">,
): { schema: unknown; at: string } {
  const path = typeof ref === "string" ? /^#(\/.*)?$/s.exec(ref) : undefined;
  if (!path) {
    throw problem(
      "unsupported_parameter",
      `${at}.$ref`,
      "is not a path within the schema, such as '#/$defs/name'",
    );
  }
  // Each of very many schemas may follow the same path.
  if (path[0].length > refCharsMax) {
    throw problem("invalid_value", `${at}.$ref`, `has more than ${refCharsMax} characters`);
  }
  let found: unknown = root;
  let foundAt = rootAt;
  for (const part of (path[1] ?? "").split("/").slice(1)) {
    const key = decoded(part);
    const entry = Object.getOwnPropertyDescriptor(Object(found), key);
    if (!entry?.enumerable) throw problem("invalid_value", `${at}.$ref`, "points at nothing");
    found = entry.value;
    foundAt += `.${key.slice(0, 100)}`;
  }
  return { schema: found, at: foundAt };
}

/** The schema with all that `allOf`, and a `$ref` that has company, say together with it. */
export function allOf(schema: Schema, at: string, place: Place, depth = 0): Located {
  const { allOf: parts, ...own } = schema;
  const joined: Located[] = [];
  if (parts !== undefined) {
    if (!Array.isArray(parts)) throw problem("invalid_value", `${at}.allOf`, "is no array");
    for (const [index, part] of parts.entries())
      joined.push(located(part, `${at}.allOf[${index}]`));
  }
  const { $ref: ref, ...rest } = own;
  const hasCompany = joined.length > 0 || Object.keys(rest).some(asserts);
  if (ref === undefined || !hasCompany) {
    if (joined.length === 0) return { schema: own, at };
    return merged([{ schema: own, at }, ...joined], at, place, depth);
  }
  const target = follow(ref, at, place);
  return merged(
    [{ schema: rest, at }, located(target.schema, target.at), ...joined],
    at,
    place,
    depth,
  );
}

/**
 * The schemas of `anyOf` or `oneOf`, each with what stands beside them.
 * @throws HubError `unsupported_parameter` where two of `oneOf` may hold at once
 */
export function alternatives(schema: Schema, at: string, place: Place): Located[] | undefined {
  const keyword = schema.anyOf === undefined ? "oneOf" : "anyOf";
  const { [keyword]: options, ...rest } = schema;
  if (options === undefined) return undefined;
  if (!Array.isArray(options) || options.length === 0) {
    throw problem("invalid_value", `${at}.${keyword}`, "is no array of schemas");
  }
  if (rest.oneOf !== undefined)
    throw problem("unsupported_parameter", `${at}.oneOf`, "stands beside 'anyOf'");
  const whole = options.flatMap((option: unknown, index): Located[] => {
    if (option === false) return [];
    const here = `${at}.${keyword}[${index}]`;
    const one = located(option === true ? {} : option, here);
    return [
      Object.keys(rest).some(asserts) ? merged([one, { schema: rest, at }], here, place, 0) : one,
    ];
  });
  if (whole.length === 0) throw problem("invalid_value", `${at}.${keyword}`, "allows nothing");
  if (keyword === "oneOf") refuseOverlap(whole, at, place);
  return whole;
}

function refuseOverlap(options: readonly Located[], at: string, place: Place): void {
  const flat = options.map((option) => resolved(option, place));
  for (const [index, a] of flat.entries()) {
    for (const b of flat.slice(index + 1)) {
      if (areApart(a, b, place)) continue;
      throw problem(
        "unsupported_parameter",
        `${at}.oneOf`,
        "has schemas that may hold at once; use 'anyOf'",
      );
    }
  }
}

/** Whether nothing that is written by one is valid by the other: by their types, their values, or a property that both need. */
function areApart(a: Located, b: Located, place: Place): boolean {
  const [valuesA, valuesB] = [valuesOf(a.schema), valuesOf(b.schema)];
  if (valuesA && valuesB) return haveNoneInCommon(valuesA, valuesB, { at: a.at, place });
  spend(place, 5 + (sizeOf(a.schema) * sizeOf(b.schema)) / 50, a.at);
  const [writtenA, writtenB] = [typesWritten(a), typesWritten(b)];
  if (!overlap(writtenA, typesTaken(b)) && !overlap(writtenB, typesTaken(a))) return true;
  const areObjects = [...writtenA, ...writtenB].every((type) => type === "object");
  const [propertiesA, propertiesB] = [a.schema.properties, b.schema.properties];
  if (!areObjects || !isObject(propertiesA) || !isObject(propertiesB)) return false;
  const needed = (one: Located, name: string) =>
    Array.isArray(one.schema.required) && one.schema.required.includes(name);
  return Object.keys(propertiesA).some((name) => {
    const [one, other] = [propertiesA[name], propertiesB[name]];
    if (!needed(a, name) || !needed(b, name) || !isObject(one) || !isObject(other)) return false;
    const [values, others] = [one, other].map((schema) =>
      valuesOf(resolved({ schema, at: a.at }, place).schema),
    );
    return values && others && haveNoneInCommon(values, others, { at: a.at, place });
  });
}

/** Types of the values that answers have; an alternative may be of any. */
function typesWritten({ schema, at }: Located): ReadonlySet<string> {
  const isOpen = schema.type === undefined && (schema.anyOf ?? schema.oneOf) !== undefined;
  return isOpen ? everyType : withoutIntegers(typesOf(schema, at));
}

/** Types of the values that are valid: what is no object passes a schema that speaks of properties alone. */
function typesTaken({ schema, at }: Located): ReadonlySet<string> {
  return schema.type === undefined ? everyType : withoutIntegers(typesOf(schema, at));
}

function withoutIntegers(types: readonly string[]): ReadonlySet<string> {
  return new Set(types.map((type) => (type === "integer" ? "number" : type)));
}

function overlap(types: ReadonlySet<string>, others: ReadonlySet<string>): boolean {
  return [...types].some((type) => others.has(type));
}

function haveNoneInCommon(
  values: readonly unknown[],
  others: readonly unknown[],
  { at, place }: { at: string; place: Place },
): boolean {
  spend(place, values.length * others.length, at);
  return !values.some((value) => others.some((other) => areEqual(value, other, { at, place })));
}

function valuesOf(schema: Schema): readonly unknown[] | undefined {
  if ("const" in schema) return [schema.const];
  return Array.isArray(schema.enum) ? schema.enum : undefined;
}

/** With references followed and `allOf` joined, as far as it goes. */
function resolved({ schema, at }: Located, place: Place, depth = 0): Located {
  spend(place, 10, at);
  const joined = allOf(schema, at, place, depth);
  if (joined.schema.$ref === undefined) return joined;
  if (depth > followMax) throw problem("invalid_value", `${at}.$ref`, "leads nowhere");
  const target = follow(joined.schema.$ref, joined.at, place);
  return resolved(located(target.schema, target.at), place, depth + 1);
}

function merged(parts: readonly Located[], at: string, place: Place, depth: number): Located {
  if (depth > followMax) throw problem("invalid_value", at, "leads nowhere");
  const all: Record<string, unknown> = Object.create(null);
  const flat = parts.map((part) => resolved(part, place, depth + 1).schema);
  for (const schema of flat) spend(place, sizeOf(schema), at);
  refuseHiddenProperties(flat, at);
  for (const schema of flat) {
    for (const [keyword, value] of Object.entries(schema)) {
      all[keyword] =
        keyword in all && asserts(keyword)
          ? together(keyword, all[keyword], value, { at, place })
          : value;
    }
  }
  return { schema: all, at };
}

/** What two schemas say with one keyword, said with it once. */
function together(
  keyword: string,
  a: unknown,
  b: unknown,
  { at, place }: { at: string; place: Place },
): unknown {
  if (areEqual(a, b, { at, place })) return a;
  const most = /^(minimum|exclusiveMinimum|minLength|minItems|minProperties)$/.test(keyword);
  const least = /^(maximum|exclusiveMaximum|maxLength|maxItems|maxProperties)$/.test(keyword);
  if (typeof a === "number" && typeof b === "number" && (most || least)) {
    return most ? Math.max(a, b) : Math.min(a, b);
  }
  if (keyword === "required" && Array.isArray(a) && Array.isArray(b)) {
    spend(place, a.length + b.length, at);
    return [...new Set([...a, ...b])];
  }
  if (keyword === "type") {
    const [one, other] = [new Set([a].flat()), new Set([b].flat())];
    const has = (types: ReadonlySet<unknown>, type: unknown) =>
      types.has(type) || (type === "integer" && types.has("number"));
    const common = [
      ...[...one].filter((type) => has(other, type)),
      ...[...other].filter((type) => has(one, type)),
    ];
    if (common.length > 0) return [...new Set(common)];
  }
  if (keyword === "properties" && isObject(a) && isObject(b)) {
    // What was joined before is copied with each part that follows.
    spend(place, Object.keys(a).length + Object.keys(b).length, at);
    const shared = Object.keys(a).filter((name) => Object.hasOwn(b, name));
    return {
      ...a,
      ...b,
      ...Object.fromEntries(shared.map((name) => [name, { allOf: [a[name], b[name]] }])),
    };
  }
  throw problem(
    "unsupported_parameter",
    `${at}.${keyword}`,
    "is said twice, and the two are not joined",
  );
}

/** Which properties are additional depends on those beside it, which joining would change. */
function refuseHiddenProperties(schemas: readonly Schema[], at: string): void {
  for (const keyword of ["additionalProperties", "unevaluatedProperties", "items"]) {
    const speaker = schemas.find(
      (schema) => schema[keyword] !== undefined && schema[keyword] !== true,
    );
    if (!speaker) continue;
    const beside = keyword === "items" ? "prefixItems" : "properties";
    const known = JSON.stringify(Object.keys(speaker[beside] ?? {}).sort());
    const differs = schemas.some(
      (schema) =>
        schema !== speaker &&
        schema[beside] !== undefined &&
        JSON.stringify(Object.keys(schema[beside] ?? {}).sort()) !== known,
    );
    if (differs)
      throw problem(
        "unsupported_parameter",
        `${at}.${keyword}`,
        "cannot be joined with what stands beside it",
      );
  }
}

function asserts(keyword: string): boolean {
  return typed.has(keyword) || /^(type|enum|const|\$ref|anyOf|oneOf|allOf)$/.test(keyword);
}

function located(schema: unknown, at: string): Located {
  if (schema === true) return { schema: {}, at };
  if (schema === false) throw problem("invalid_value", at, "allows nothing");
  if (!isObject(schema)) throw problem("invalid_value", at, "is neither an object nor a boolean");
  return { schema, at };
}

function decoded(part: string): string {
  const plain = part.replaceAll("~1", "/").replaceAll("~0", "~");
  try {
    return decodeURIComponent(plain);
  } catch {
    return plain;
  }
}

/**
 * Schemas that name others twice grow with each step that follows them, and nobody else is served meanwhile.
 * @throws HubError `invalid_value` when nothing is left
 */
function spend({ work }: Place, amount: number, at: string): void {
  work.left -= amount;
  if (work.left < 0) throw problem("invalid_value", at, "takes too much joining and comparing");
}

function areEqual(a: unknown, b: unknown, { at, place }: { at: string; place: Place }): boolean {
  spend(place, Math.min(countOf(a), countOf(b)), at);
  return isDeepStrictEqual(a, b);
}

/** The value and all that are in it. */
function countOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 1;
  const known = counts.get(value);
  if (known !== undefined) return known;
  const count = Object.values(value).reduce((sum: number, one) => sum + countOf(one), 1);
  counts.set(value, count);
  return count;
}

/** Keywords, names of properties and lists of names: what joining looks at. */
function sizeOf(schema: Schema): number {
  const { properties, required, enum: values } = schema;
  const lists = [required, values].map((list) => (Array.isArray(list) ? list.length : 0));
  const names = isObject(properties) ? Object.keys(properties).length : 0;
  return lists.reduce((sum, length) => sum + length, Object.keys(schema).length + names);
}

function problem(
  code: "invalid_value" | "unsupported_parameter",
  at: string,
  what: string,
): HubError {
  return new HubError(code, `Invalid JSON schema: '${at}' ${what}.`, { param: at });
}

const allTypes = ["object", "array", "string", "number", "integer", "boolean", "null"];
const everyType = withoutIntegers(allTypes);
/** Found out once for each: schemas are compared again and again. */
const counts = new WeakMap<object, number>();
const followMax = 32;
const refCharsMax = 1_000;
