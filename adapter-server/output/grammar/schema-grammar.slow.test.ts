/**
 * Every keyword of JSON Schema is kept or refused: whatever the grammar takes, an independent validator finds valid.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { accepts } from "./__fixtures__/accepts.ts";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import { schemaExpression } from "./schema-grammar.ts";

function grammarOf(schema: unknown) {
  const text = newGrammarText(4e6);
  return text.grammar(schemaExpression(schema, text, "schema"));
}

/** What there is to say, valid or not: the same texts for all schemas. */
const values: unknown[] = [
  ...[null, true, false, 0, 1, 2, 3, -1, 5, 10, 1.5, 0.5, -0.25, 100, 1e21],
  ...[
    "",
    "a",
    "ab",
    "abc",
    "é",
    "😀😀",
    'a"b',
    "a\\b",
    "\n",
    "\u0001",
    "red",
    "2024-02-30",
    "2024-02-28",
  ],
  ...[
    "12:00:00Z",
    "2024-01-31T12:00:00Z",
    "a@b.co",
    "127.0.0.1",
    "256.0.0.1",
    "https://a.b/c",
    "nonsense!",
  ],
  ...["3f2504e0-4f89-41d3-9a0c-0305e82c3301", "P1D", "P"],
  ...[[], [1], [1, 2], [1, 1], ["a"], [1, "a"], ["a", 1, true], [[]], [{}], [null], [1, 2, 3, 4]],
  ...[
    {},
    { a: 1 },
    { b: 2 },
    { a: "x" },
    { a: 1, b: 2 },
    { a: 1, c: 3 },
    { b: 2, a: 1 },
    { a: null },
    { kind: "x" },
  ],
  ...[
    { kind: "x", a: 1 },
    { kind: "y", b: "s" },
    { kind: "y", a: 1 },
    { a: { a: 1 } },
    { next: { next: null } },
  ],
  ...[
    { next: null },
    { next: {} },
    { "ä\n": 1 },
    { name: "n", tags: ["t", "u"] },
    { foo: [], bar: {} },
  ],
];
const texts = [
  ...new Set(
    values.flatMap((value) => [
      JSON.stringify(value),
      JSON.stringify(value).replaceAll(":", ": ").replaceAll(",", ", "),
      JSON.stringify(value, null, 2),
    ]),
  ),
  ...[
    "-0",
    "1.0",
    "01",
    "1e400",
    "1e5",
    '"\\u00e9"',
    '"\\ud83d"',
    '"\t"',
    '{"a":1,"a":"x"}',
    "nul",
    "[1,]",
    "{,}",
    "",
  ],
];
const formatChecks: Record<string, (text: string) => boolean> = {
  date: (text) => isDate(text),
  time: (text) => /^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text),
  "date-time": (text) => isDate(text.slice(0, 10)) && !Number.isNaN(Date.parse(text)),
  duration: (text) =>
    /^P(?!$)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?!$)(\d+H)?(\d+M)?(\d+S)?)?$/.test(text),
  email: (text) => /^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(text),
  hostname: (text) => /^[A-Za-z0-9.-]+$/.test(text),
  ipv4: (text) =>
    text.split(".").length === 4 &&
    text.split(".").every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256),
  ipv6: (text) => /^([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$/.test(text),
  uri: (text) => URL.canParse(text),
  uuid: (text) => /^[0-9a-f-]{36}$/.test(text),
};

function isDate(text: string): boolean {
  const date = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
}

function validator(schema: object | boolean): (value: unknown) => boolean {
  const ajv = new Ajv2020({ strict: false, formats: formatChecks });
  const validate = ajv.compile(schema);
  return (value) => validate(value) === true;
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return unparsable;
  }
};
const unparsable = Symbol("no JSON");

async function takenBy(schema: object | boolean): Promise<string[]> {
  const taken = await accepts(grammarOf(schema), texts);
  return texts.filter((_, index) => taken[index]);
}

/** A schema, and a text that it has to take so that the case shows anything. */
const kept: [name: string, schema: object | boolean, example: string][] = [
  ["true", true, '{"a":{"a":1}}'],
  ["{}", {}, "[1,2]"],
  ["type", { type: "integer" }, "3"],
  ["type number", { type: "number" }, "-0.25"],
  ["type string", { type: "string" }, '"a\\"b"'],
  ["type boolean", { type: "boolean" }, "true"],
  ["type null", { type: "null" }, "null"],
  ["type array", { type: "array" }, '[1, "a"]'],
  ["type object", { type: "object" }, '{"a": 1}'],
  ["several types", { type: ["string", "null"] }, "null"],
  ["enum", { enum: ["red", 3, null, { a: 1 }] }, '"red"'],
  ["enum of a type", { type: "string", enum: ["red", 3] }, '"red"'],
  ["const", { const: { a: 1 } }, '{"a":1}'],
  ["minimum", { type: "integer", minimum: 2 }, "3"],
  ["maximum", { type: "number", maximum: 1.5 }, "1.5"],
  ["exclusiveMinimum", { type: "number", exclusiveMinimum: 0 }, "0.5"],
  ["exclusiveMaximum", { type: "integer", exclusiveMaximum: 3 }, "2"],
  ["bounds without a type", { minimum: 2, maximum: 5 }, "3"],
  ["multipleOf 1", { type: "integer", multipleOf: 1 }, "3"],
  ["minLength", { type: "string", minLength: 2 }, '"😀😀"'],
  ["maxLength", { type: "string", maxLength: 2 }, '"é"'],
  ["both lengths", { type: "string", minLength: 1, maxLength: 2 }, '"\\n"'],
  ["pattern", { type: "string", pattern: "^a" }, '"a\\"b"'],
  ["pattern in the middle", { type: "string", pattern: "b|\\n" }, '"abc"'],
  [
    "prefixItems",
    { type: "array", prefixItems: [{ type: "string" }, { type: "integer" }] },
    '["a",1,true]',
  ],
  ["items false", { type: "array", prefixItems: [{ type: "integer" }], items: false }, "[1]"],
  ["items", { type: "array", items: { type: "integer" } }, "[1,2]"],
  ["minItems", { type: "array", minItems: 2 }, "[1,2]"],
  ["maxItems", { type: "array", maxItems: 1 }, "[]"],
  [
    "minItems behind prefixItems",
    { prefixItems: [true], items: { type: "integer" }, minItems: 2, maxItems: 3 },
    "[1,2]",
  ],
  ["uniqueItems false", { type: "array", uniqueItems: false }, "[1,1]"],
  [
    "properties",
    { properties: { a: { type: "integer" }, b: { type: "integer" } } },
    '{"a":1,"b":2}',
  ],
  ["required", { type: "object", properties: { a: {}, b: {} }, required: ["b"] }, '{"b":2}'],
  ["required alone", { type: "object", required: ["a"] }, '{"a":1}'],
  ["additionalProperties false", { properties: { a: {} }, additionalProperties: false }, '{"a":1}'],
  [
    "additionalProperties alone",
    { type: "object", additionalProperties: { type: "integer" } },
    '{"a":1,"b":2}',
  ],
  ["additionalProperties false alone", { type: "object", additionalProperties: false }, "{}"],
  ["a property that is false", { type: "object", properties: { a: false, b: {} } }, '{"b":2}'],
  [
    "unevaluatedProperties false",
    { type: "object", properties: { a: {} }, unevaluatedProperties: false },
    '{"a":1}',
  ],
  ["minProperties 1", { type: "object", minProperties: 1 }, '{"a":1}'],
  ["maxProperties", { type: "object", maxProperties: 1 }, "{}"],
  ["anyOf", { anyOf: [{ type: "integer" }, { type: "string", maxLength: 1 }] }, '"a"'],
  [
    "anyOf beside others",
    {
      type: "object",
      properties: { a: {}, b: {} },
      anyOf: [{ required: ["a"] }, { required: ["b"] }],
    },
    '{"b":2}',
  ],
  ["oneOf by type", { oneOf: [{ type: "integer" }, { type: "string" }] }, '"a"'],
  [
    "oneOf by a property",
    {
      oneOf: [
        {
          type: "object",
          properties: { kind: { const: "x" }, a: { type: "integer" } },
          required: ["kind", "a"],
        },
        {
          type: "object",
          properties: { kind: { const: "y" }, b: { type: "string" } },
          required: ["kind", "b"],
        },
      ],
      discriminator: { propertyName: "kind" },
    },
    '{"kind":"y","b":"s"}',
  ],
  [
    "allOf",
    {
      allOf: [{ properties: { a: { type: "integer" } } }, { required: ["a"] }, { type: "object" }],
    },
    '{"a":1}',
  ],
  [
    "allOf of bounds",
    { type: "integer", minimum: 0, allOf: [{ minimum: 2 }, { maximum: 4 }] },
    "3",
  ],
  ["$ref", { $ref: "#/$defs/n", $defs: { n: { type: "integer" } } }, "3"],
  ["$ref with company", { $ref: "#/$defs/n", minimum: 2, $defs: { n: { type: "integer" } } }, "3"],
  [
    "a $ref that leads back",
    {
      type: "object",
      properties: { next: { anyOf: [{ $ref: "#" }, { type: "null" }] } },
      required: ["next"],
    },
    '{"next":{"next":null}}',
  ],
  [
    "definitions, ~1 and %",
    { $ref: "#/definitions/a~1b%25", definitions: { "a/b%": { const: 1 } } },
    "1",
  ],
  [
    "annotations",
    {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      title: "t",
      description: "d",
      default: 1,
      type: "integer",
    },
    "3",
  ],
  ...(["date", "time", "date-time", "duration", "email", "ipv4", "uri", "uuid"] as const).map(
    (format): [string, object, string] => [
      `format ${format}`,
      { type: "string", format },
      JSON.stringify(
        {
          date: "2024-02-28",
          time: "12:00:00Z",
          "date-time": "2024-01-31T12:00:00Z",
          duration: "P1D",
          email: "a@b.co",
          ipv4: "127.0.0.1",
          uri: "https://a.b/c",
          uuid: "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        }[format],
      ),
    ],
  ),
];

describe("what is kept", () => {
  test.each(kept)("%s", async (_name, schema, example) => {
    const taken = await takenBy(schema);
    const isValid = validator(schema);
    expect(taken.filter((text) => !isValid(parsed(text)))).toEqual([]);
    expect(taken).toContain(example);
  });
});

const refused: [keyword: string, schema: unknown][] = [
  ["not", { not: { type: "string" } }],
  ["if", { if: { type: "string" }, else: { minLength: 1 } }],
  ["dependentRequired", { dependentRequired: { a: ["b"] } }],
  ["dependentSchemas", { dependentSchemas: { a: { required: ["b"] } } }],
  ["patternProperties", { patternProperties: { "^a": { type: "string" } } }],
  ["propertyNames", { propertyNames: { maxLength: 1 } }],
  ["contains", { contains: { type: "string" } }],
  ["minContains", { minContains: 2 }],
  ["maxContains", { maxContains: 2 }],
  ["uniqueItems", { uniqueItems: true }],
  ["unevaluatedItems", { unevaluatedItems: false }],
  ["multipleOf", { type: "integer", multipleOf: 3 }],
  ["minProperties", { type: "object", minProperties: 2 }],
  ["maxProperties", { properties: { a: {}, b: {} }, maxProperties: 1 }],
  ["$dynamicRef", { $dynamicRef: "#node" }],
  ["$anchor", { $anchor: "here" }],
  ["$ref", { $ref: "https://example.com/schema.json" }],
  ["$ref", { $ref: "other.json#/a" }],
  ["oneOf", { oneOf: [{ type: "integer" }, { type: "number" }] }],
  ["format", { type: "string", format: "regex" }],
  ["maxlength", { type: "string", maxlength: 3 }],
  ["$id", { properties: { a: { $id: "x" } } }],
];

describe("what is not kept is refused by its place", () => {
  test.each(refused)("%s", (keyword, schema) => {
    const deep = { type: "object", properties: { inside: schema } };
    for (const [given, start] of [
      [schema, "schema"],
      [deep, "schema.properties.inside"],
    ] as const) {
      expect(() => grammarOf(given)).toThrow(
        expect.objectContaining({
          code: "unsupported_parameter",
          param: expect.stringContaining(start),
        }),
      );
      expect(() => grammarOf(given)).toThrow(
        expect.objectContaining({ param: expect.stringContaining(keyword) }),
      );
    }
  });

  test.each<[name: string, schema: unknown]>([
    ["false", false],
    ["no object", 3],
    ["an unknown type", { type: "text" }],
    ["an empty enum", { enum: [] }],
    ["bounds that cross", { type: "integer", minimum: 3, maximum: 2 }],
    ["lengths that cross", { type: "string", minLength: 3, maxLength: 2 }],
    ["a $ref to nothing", { $ref: "#/$defs/a" }],
    ["a $ref to itself", { $ref: "#", type: "object" }],
    ["a pattern that is none", { pattern: "(" }],
    ["a length beyond all", { maxLength: 1e9 }],
    ["a schema too deep", JSON.parse(`${'{"items":'.repeat(200)}{}${"}".repeat(200)}`)],
    [
      "a schema too large",
      {
        properties: Object.fromEntries(
          Array.from({ length: 3000 }, (_, i) => [`p${i}`, { title: `${i}` }]),
        ),
      },
    ],
  ])("%s", (_name, schema) => {
    expect(() => grammarOf(schema)).toThrow(
      expect.objectContaining({ code: "invalid_value", param: expect.stringContaining("schema") }),
    );
  });
});

const leaf = fc.oneof(
  fc.constant({ type: "integer", minimum: -2, maximum: 12 }),
  fc.constant({ type: "string", maxLength: 2 }),
  fc.constant({ enum: ["red", 1, null] }),
  fc.constant({ type: ["boolean", "null"] }),
  fc.constant({}),
  fc.constant({ type: "number", exclusiveMinimum: 0 }),
);
const anySchema = fc.letrec<{ schema: object }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf,
    fc.record(
      {
        type: fc.constant("object"),
        properties: fc.dictionary(fc.constantFrom("a", "b", "kind", "next"), tie("schema"), {
          maxKeys: 3,
        }),
        required: fc.subarray(["a", "b"]),
        additionalProperties: fc.oneof(fc.boolean(), tie("schema")),
      },
      { requiredKeys: ["type"] },
    ),
    fc.record(
      {
        type: fc.constant("array"),
        items: tie("schema"),
        minItems: fc.nat({ max: 2 }),
        prefixItems: fc.array(tie("schema"), { minLength: 1, maxLength: 2 }),
      },
      { requiredKeys: ["type"] },
    ),
    fc.record({ anyOf: fc.array(tie("schema"), { minLength: 1, maxLength: 2 }) }),
    fc.record({ allOf: fc.array(tie("schema"), { minLength: 1, maxLength: 2 }) }),
  ),
})).schema;

test("whatever schema, all that its grammar takes is valid, or it is refused", async () => {
  let compiled = 0;
  await fc.assert(
    fc.asyncProperty(anySchema, async (schema) => {
      let taken: string[];
      try {
        taken = await takenBy(schema);
      } catch (error) {
        expect(error).toHaveProperty("code");
        return;
      }
      compiled++;
      const isValid = validator(schema);
      expect(taken.filter((text) => !isValid(parsed(text)))).toEqual([]);
    }),
    { numRuns: 60 },
  );
  expect(compiled).toBeGreaterThan(20);
});
