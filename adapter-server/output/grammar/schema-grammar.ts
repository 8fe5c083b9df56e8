/**
 * JSON Schema (draft 2020-12) as a grammar of compact JSON. Every text that the grammar allows is valid by the schema.
 * It may allow less than the schema does: properties come in the schema's order and no others beside them, numbers
 * have as many digits as a double holds, and one space may follow a colon or a comma. A keyword that would not be
 * kept is refused by its place, never ignored.
 */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { CodePoints } from "./code-points.ts";
import { type Expression, type GrammarText, literal, nothing, sequence } from "./grammar-text.ts";
import { JsonText } from "./json-text.ts";
import { type Bounds, decimalsWithin, integersWithin, isPlainBound } from "./number-range.ts";
import { jsonCharacters, regexExpression } from "./regex-grammar.ts";
import { allOf, alternatives, follow, isObject, type Schema, typesOf } from "./schema.ts";
import { formats, keywordsOfTypes, refuseUnknownKeywords } from "./schema-keywords.ts";

/** @throws HubError `invalid_value`, `unsupported_parameter` that names the keyword */
export function schemaExpression(schema: unknown, text: GrammarText, param: string): Expression {
  return new SchemaGrammar(schema, text, param).value(schema, param, 0);
}

class SchemaGrammar {
  readonly #root: unknown;
  readonly #rootAt: string;
  readonly #text: GrammarText;
  readonly #json: JsonText;
  /** Rules by the schemas that they stand for, so that one that leads back to itself ends. */
  readonly #rules = new Map<unknown, Expression>();
  #schemas = 0;

  constructor(root: unknown, text: GrammarText, rootAt: string) {
    this.#root = root;
    this.#rootAt = rootAt;
    this.#text = text;
    this.#json = new JsonText(text);
  }

  value(given: unknown, at: string, depth: number): Expression {
    if (given === true) return this.#json.value();
    if (given === false) throw refused(at, "allows nothing");
    if (!isObject(given)) throw refused(at, "is neither an object nor a boolean");
    const known = this.#rules.get(given);
    if (known !== undefined) return known;
    const { schemasMax, schemaDepthMax } = this.#text.limits;
    if (++this.#schemas > schemasMax || depth > schemaDepthMax) {
      throw refused(
        at,
        `is too large: at most ${schemasMax} schemas, ${schemaDepthMax} in one another`,
      );
    }
    const name = this.#text.declare();
    this.#rules.set(given, name);
    this.#text.define(name, this.#text.rule(this.#assertions(given, at, depth)));
    return name;
  }

  #assertions(given: Schema, at: string, depth: number): Expression {
    const place = { root: this.#root, rootAt: this.#rootAt, work: this.#text.schemaWork };
    const { schema, at: here } = allOf(given, at, place);
    refuseUnknownKeywords(schema, here, depth === 0);
    if (schema.$ref !== undefined) {
      const target = follow(schema.$ref, here, place);
      return this.value(target.schema, target.at, depth + 1);
    }
    const options = alternatives(schema, here, place);
    if (options) {
      return this.#text.choice(
        options.map((option) => this.value(option.schema, option.at, depth + 1)),
      );
    }
    if ("const" in schema) return this.#values([schema.const], schema, `${here}.const`);
    if (schema.enum !== undefined) {
      if (!Array.isArray(schema.enum)) throw refused(`${here}.enum`, "is no array");
      return this.#values(schema.enum, schema, `${here}.enum`);
    }
    const types = typesOf(schema, here);
    const said = types.flatMap((type) => this.#ofType(type, schema, here, depth) ?? []);
    if (said.length === 0) throw refused(here, "allows nothing");
    return this.#text.choice(said);
  }

  #values(values: readonly unknown[], schema: Schema, at: string): Expression {
    const types = typesOf(schema, at);
    const fitting = values.filter((value) => types.some((type) => isOfType(value, type)));
    if (fitting.length === 0) throw refused(at, "allows nothing");
    if (fitting.length > enumMax) throw refused(at, `has more than ${enumMax} values`);
    for (const keyword of keywordsOfTypes(schema)) {
      if (keyword !== "type") throw refused(at, `is not supported beside '${keyword}'`);
    }
    return this.#text.choice(fitting.map((value) => literal(JSON.stringify(value))));
  }

  #ofType(type: string, schema: Schema, at: string, depth: number): Expression | undefined {
    switch (type) {
      case "null":
        return literal("null");
      case "boolean":
        return this.#text.choice([literal("true"), literal("false")]);
      case "integer":
        return this.#number(schema, at, true);
      case "number":
        return this.#number(schema, at, false);
      case "string":
        return this.#string(schema, at);
      case "array":
        return this.#array(schema, at, depth);
      case "object":
        return this.#object(schema, at, depth);
      default:
        throw refused(`${at}.type`, "names no type");
    }
  }

  #number(schema: Schema, at: string, whole: boolean): Expression | undefined {
    const bounds = boundsOf(schema, at);
    if (schema.multipleOf !== undefined && !(whole && schema.multipleOf === 1)) {
      throw unsupported(`${at}.multipleOf`);
    }
    if (!bounds.min && !bounds.max) return whole ? this.#json.integer() : this.#json.number();
    return whole ? integersWithin(this.#text, bounds) : decimalsWithin(this.#text, bounds);
  }

  #string(schema: Schema, at: string): Expression {
    const { pattern, format } = schema;
    const min = count(schema, "minLength", at) ?? 0;
    const max = count(schema, "maxLength", at);
    if (max !== undefined && max < min)
      throw refused(`${at}.maxLength`, "is less than 'minLength'");
    const counted = min > 0 || max !== undefined;
    if (pattern === undefined && format === undefined) {
      return counted ? this.#json.stringOf(min, max) : this.#json.string();
    }
    if (counted || (pattern !== undefined && format !== undefined)) {
      throw refused(at, "asks for more than one of 'pattern', 'format' and a length");
    }
    const [name, source] =
      format === undefined ? ["pattern", pattern] : ["format", formats.get(String(format))];
    if (typeof source !== "string") {
      throw name === "format"
        ? unsupported(`${at}.format`)
        : refused(`${at}.pattern`, "is no string");
    }
    const characters = (set: CodePoints) => jsonCharacters(this.#text, set);
    const options = {
      text: this.#text,
      param: `${at}.${name}`,
      matches: "part" as const,
      characters,
    };
    return sequence([literal('"'), regexExpression(source, options), literal('"')]);
  }

  #array(schema: Schema, at: string, depth: number): Expression {
    if (schema.uniqueItems === true) throw unsupported(`${at}.uniqueItems`);
    const first = schema.prefixItems ?? [];
    if (!Array.isArray(first)) throw refused(`${at}.prefixItems`, "is no array");
    const open = schema.items !== false;
    const min = count(schema, "minItems", at) ?? 0;
    const max = count(schema, "maxItems", at) ?? (open ? undefined : first.length);
    if (max !== undefined && max < min) throw refused(at, "allows no number of items");
    if (!open && min > first.length)
      throw refused(`${at}.minItems`, "is more than 'prefixItems' has");
    const items = first.map((item, index) =>
      this.value(item, `${at}.prefixItems[${index}]`, depth + 1),
    );
    const more =
      open && (max === undefined || max > items.length)
        ? this.value(schema.items ?? true, `${at}.items`, depth + 1)
        : undefined;
    return sequence([
      literal("["),
      this.#items(items.slice(0, max), more, { min, max }),
      literal("]"),
    ]);
  }

  /** Items with commas between them; as soon as `min` of them are there, the rest may be missing. */
  #items(
    first: readonly Expression[],
    more: Expression | undefined,
    { min, max }: { min: number; max: number | undefined },
  ): Expression {
    const comma = this.#json.comma();
    const least = Math.max(0, min - first.length);
    const most = max === undefined ? undefined : max - first.length;
    if (first.length === 0) {
      if (more === undefined || most === 0) return nothing;
      const rest = this.#text.repeat(
        sequence([comma, more]),
        Math.max(0, least - 1),
        most === undefined ? undefined : most - 1,
      );
      const all = sequence([more, rest]);
      return least > 0 ? all : this.#text.optional(all);
    }
    let tail =
      more === undefined ? nothing : this.#text.repeat(sequence([comma, more]), least, most);
    for (const [index, item] of [...first.entries()].reverse()) {
      tail = sequence([...(index > 0 ? [comma] : []), item, tail]);
      if (index >= min) tail = this.#text.optional(tail);
    }
    return tail;
  }

  #object(schema: Schema, at: string, depth: number): Expression {
    const properties = schema.properties ?? {};
    if (!isObject(properties)) throw refused(`${at}.properties`, "is no object");
    const names = schema.required ?? [];
    if (!Array.isArray(names) || names.some((name) => typeof name !== "string")) {
      throw refused(`${at}.required`, "is no array of names");
    }
    const required = new Set<string>(names);
    const others = schema.additionalProperties ?? schema.unevaluatedProperties ?? true;
    const undeclared = [...required].filter((name) => !Object.hasOwn(properties, name));
    const members = [
      ...Object.entries(properties).map(([name, value]) => ({
        name,
        value,
        at: `${at}.properties.${name.slice(0, 100)}`,
        needed: required.has(name),
      })),
      ...undeclared,
    ].map((member) =>
      typeof member === "string"
        ? { name: member, value: others, at: `${at}.additionalProperties`, needed: true }
        : member,
    );
    const said = members.filter(({ value, needed }) => needed || value !== false);
    const parts = said.map(({ name, value, at: place, needed }) => ({
      member: sequence([
        literal(JSON.stringify(name)),
        this.#json.colon(),
        this.value(value, place, depth + 1),
      ]),
      needed,
    }));
    const min = count(schema, "minProperties", at) ?? 0;
    const max = count(schema, "maxProperties", at);
    if (parts.length === 0 && Object.keys(properties).length === 0) {
      return this.#map(others, { min, max, at, depth });
    }
    const needed = parts.filter((part) => part.needed).length;
    if (min > needed) throw unsupported(`${at}.minProperties`);
    if (max !== undefined && max < parts.length) throw unsupported(`${at}.maxProperties`);
    return sequence([literal("{"), this.#members(parts), literal("}")]);
  }

  /** Any names, all with values of one kind. */
  #map(
    others: unknown,
    { min, max, at, depth }: { min: number; max: number | undefined; at: string; depth: number },
  ): Expression {
    // A name that came twice would count once.
    if (min > 1) throw unsupported(`${at}.minProperties`);
    if (max !== undefined && max < min)
      throw refused(`${at}.maxProperties`, "is less than 'minProperties'");
    if (others === false || max === 0) {
      if (min > 0) throw refused(at, "allows nothing");
      return literal("{}");
    }
    const value = this.value(others, `${at}.additionalProperties`, depth + 1);
    const member = sequence([this.#json.string(), this.#json.colon(), value]);
    return sequence([literal("{"), this.#items([], member, { min, max }), literal("}")]);
  }

  /** In their order, those that are not needed left out or not, with commas between those that are there. */
  #members(parts: readonly { member: Expression; needed: boolean }[]): Expression {
    let [head, tail]: [Expression, Expression] = [nothing, nothing];
    for (const { member, needed } of [...parts].reverse()) {
      const first = sequence([member, tail]);
      const next = sequence([this.#json.comma(), member, tail]);
      head = needed ? this.#text.rule(first) : this.#text.choice([first, head]);
      tail = needed ? this.#text.rule(next) : this.#text.choice([next, tail]);
    }
    return head;
  }
}

function boundsOf(schema: Schema, at: string): Bounds {
  const read = (keyword: string, exclusive: boolean) => {
    const value = schema[keyword];
    if (value === undefined) return undefined;
    if (typeof value !== "number") throw refused(`${at}.${keyword}`, "is no number");
    if (!isPlainBound(value))
      throw refused(`${at}.${keyword}`, "has more digits than are supported");
    return { value, exclusive };
  };
  const mins = [read("minimum", false), read("exclusiveMinimum", true)].filter(
    (one) => one !== undefined,
  );
  const maxes = [read("maximum", false), read("exclusiveMaximum", true)].filter(
    (one) => one !== undefined,
  );
  return {
    min: mins.sort((a, b) => b.value - a.value || Number(b.exclusive) - Number(a.exclusive))[0],
    max: maxes.sort((a, b) => a.value - b.value || Number(b.exclusive) - Number(a.exclusive))[0],
  };
}

function count(schema: Schema, keyword: string, at: string): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= countMax)
    return value;
  throw refused(`${at}.${keyword}`, `is no whole number from 0 to ${countMax}`);
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

function refused(at: string, what: string): HubError {
  return new HubError("invalid_value", `Invalid JSON schema: '${at}' ${what}.`, { param: at });
}

function unsupported(at: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `The JSON schema's '${at}' is not supported: its answers could not be kept to it.`,
    { param: at },
  );
}

const enumMax = 5_000;
/** Each repetition of a text is a state of its own, which takes time to compile. */
const countMax = 1_000;
