/** Structured output over the real engine and the demo model: whatever is drawn, a finished answer is valid. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ChatCompletion } from "../sdk/protocol/chat.ts";
import { type AdapterServer, createAdapterServer } from "./server.ts";

const demo = fileURLToPath(new URL("../deploy/demo-model/", import.meta.url));
const faults: unknown[] = [];
let dataDir: string;
let server: AdapterServer;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "structured-output-"));
  server = await createAdapterServer({
    model: { id: "support-tiny", folder: join(demo, "base") },
    format: "f32",
    dataDir,
    limits: { kvCacheTokens: 8192, sequencesMax: 8 },
    threads: 2,
    version: "test",
    onFault: (message, cause) => faults.push({ message, cause }),
  });
});

afterAll(async () => {
  await server?.close();
  await rm(dataDir, { recursive: true, force: true });
  expect(faults).toEqual([]);
});

type Fields = Record<string, unknown>;

function post(fields: Fields): Promise<Response> | Response {
  return server.app.fetch(
    new Request("http://test/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "support-tiny",
        messages: [{ role: "user", content: "My card was charged twice. Answer in JSON." }],
        max_tokens: 120,
        ...fields,
      }),
    }),
  );
}

async function choicesOf(fields: Fields): Promise<ChatCompletion["choices"]> {
  const response = await post(fields);
  const body = (await response.json()) as ChatCompletion;
  expect(response.status, JSON.stringify(body)).toBe(200);
  return body.choices;
}

async function textsOf(fields: Fields): Promise<string[]> {
  const choices = await choicesOf({ n: 4, ...fields });
  return choices.flatMap(({ message, finish_reason }) =>
    finish_reason === "length" ? [] : [message.content ?? ""],
  );
}

const schemaFormat = (schema: unknown) => ({
  response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } },
});

const property: fc.Arbitrary<object> = fc.oneof(
  fc.constant({ type: "integer", minimum: 0, maximum: 120 }),
  fc.constant({ type: "string", maxLength: 12 }),
  fc.constant({ type: "string", minLength: 3, maxLength: 5 }),
  fc.constant({ enum: ["low", "high", "higher", 3, null] }),
  fc.constant({ type: "number", minimum: 0, maximum: 1 }),
  fc.constant({ type: "boolean" }),
  fc.constant({ type: "string", pattern: "^[A-Z]{2}-\\d{1,3}$" }),
  fc.constant({ type: "array", items: { type: "boolean" }, minItems: 1, maxItems: 3 }),
  fc.constant({
    anyOf: [
      { type: "null" },
      { type: "object", properties: { a: { type: "integer" } }, required: ["a"] },
    ],
  }),
);
const schemas = fc.record({
  type: fc.constant("object"),
  properties: fc.dictionary(fc.constantFrom("id", "name", "risk", "größe"), property, {
    minKeys: 1,
    maxKeys: 4,
  }),
  required: fc.constant([]),
  additionalProperties: fc.constant(false),
});
const samplings = fc.oneof(
  fc.constant({ temperature: 0 }),
  fc.record({
    temperature: fc.constantFrom(0.7, 1.5, 2),
    top_p: fc.constantFrom(1, 0.9),
    top_k: fc.constantFrom(0, 40),
    min_p: fc.constantFrom(0, 0.05),
    repetition_penalty: fc.constantFrom(1, 1.3),
    frequency_penalty: fc.constantFrom(0, 1),
    seed: fc.nat({ max: 1e6 }),
  }),
);

test("whatever schema and sampling, a finished answer is valid", async () => {
  let finished = 0;
  await fc.assert(
    fc.asyncProperty(schemas, samplings, async (schema, sampling) => {
      const validate = new Ajv2020({ strict: false }).compile(schema);
      for (const text of await textsOf({ ...schemaFormat(schema), ...sampling })) {
        finished++;
        expect(validate(JSON.parse(text)), text).toBe(true);
      }
    }),
    { numRuns: 25 },
  );
  expect(finished).toBeGreaterThan(30);
});

test("a JSON object is one", async () => {
  const texts = await textsOf({
    response_format: { type: "json_object" },
    temperature: 1,
    seed: 7,
  });
  for (const text of texts) expect(JSON.parse(text)).toBeTypeOf("object");
  const greedy = await choicesOf({ response_format: { type: "json_object" }, temperature: 0 });
  expect(greedy[0]?.message.content).toMatch(/^\{/);
});

test.each(["[a-c]{3,6}", "\\d{3}-\\d{4}", "(yes|no)[.!]?", "[^a-z\\s]{1,8}", "é{2}|中+?!"])(
  "%s is matched",
  async (source) => {
    const texts = await textsOf({
      structured_outputs: { regex: source },
      temperature: 1.5,
      seed: 3,
    });
    expect(texts.length).toBeGreaterThan(0);
    for (const text of texts) expect(text).toMatch(new RegExp(`^(?:${source})$`, "u"));
  },
);

test("a choice is one of them, word for word, by the new field and the old", async () => {
  const options = ["billing", "bill", "technical support", "другое", "🦜"];
  for (const fields of [{ structured_outputs: { choice: options } }, { guided_choice: options }]) {
    const texts = await textsOf({ ...fields, temperature: 2, seed: 5 });
    expect(texts).toHaveLength(4);
    for (const text of texts) expect(options).toContain(text);
  }
});

test("a grammar is followed", async () => {
  const grammar = 'root ::= sum\nsum ::= number ("+" number){1,3}\nnumber ::= [1-9] [0-9]?';
  const texts = await textsOf({ guided_grammar: grammar, temperature: 1, seed: 1 });
  expect(texts).toHaveLength(4);
  for (const text of texts) expect(text).toMatch(/^[1-9]\d?(\+[1-9]\d?){1,3}$/);
});

test("an answer that may say no more ends, also where the end is to be ignored", async () => {
  for (const fields of [{}, { ignore_eos: true }, { min_tokens: 50 }]) {
    const [choice] = await choicesOf({ guided_choice: ["yes"], temperature: 0, ...fields });
    expect(choice?.message.content).toBe("yes");
    expect(choice?.finish_reason).toBe("stop");
  }
});

test("log-probabilities are those of the model's own logits", async () => {
  const asked = { temperature: 0, logprobs: true, top_logprobs: 2, max_tokens: 1 };
  const [free] = await choicesOf(asked);
  const [bound] = await choicesOf({ ...asked, guided_choice: ["zebra", "xylophone"] });
  expect(bound?.logprobs?.content[0]?.top_logprobs).toEqual(
    free?.logprobs?.content[0]?.top_logprobs,
  );
});

test("many requests with grammars and without run side by side and do not meet", async () => {
  const answers = await Promise.all(
    Array.from({ length: 24 }, async (_, index) => {
      const word = `word-${index % 7}`;
      const bound = index % 3 !== 0;
      const [choice] = await choicesOf({
        temperature: 0,
        max_tokens: 24,
        ...(bound && { guided_regex: `${word}( and ${word}){2}` }),
      });
      return { bound, word, text: choice?.message.content };
    }),
  );
  const free = new Set(answers.filter(({ bound }) => !bound).map(({ text }) => text));
  expect(free.size).toBe(1);
  for (const { bound, word, text } of answers) {
    if (bound) expect(text).toBe(`${word} and ${word} and ${word}`);
  }
});

describe("is refused by its field", () => {
  test.each<[name: string, fields: Fields, error: Fields]>([
    [
      "a keyword that is not kept",
      schemaFormat({ type: "object", properties: { a: { not: {} } } }),
      {
        code: "unsupported_parameter",
        param: "response_format.json_schema.schema.properties.a.not",
      },
    ],
    [
      "two forms at once",
      { guided_choice: ["a"], guided_regex: "b" },
      { code: "invalid_value", param: "guided_choice" },
    ],
    [
      "a regular expression with look-around",
      { guided_regex: "(?=a)a" },
      { code: "unsupported_parameter", param: "guided_regex" },
    ],
    [
      "a grammar without its root",
      { structured_outputs: { grammar: 'a ::= "b"' } },
      { code: "invalid_value", param: "structured_outputs.grammar" },
    ],
    [
      "a format of another kind",
      { response_format: { type: "xml" } },
      { param: "response_format.type" },
    ],
    [
      "a field that vLLM has and we do not",
      { structured_outputs: { structural_tag: "{}" } },
      { param: "structured_outputs.structural_tag" },
    ],
    [
      "a schema's text that is none",
      { guided_json: "{" },
      { code: "invalid_value", param: "guided_json" },
    ],
  ])("%s", async (_name, fields, error) => {
    const response = await post(fields);
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: Fields }).error).toMatchObject(error);
  });
});

test("grammars that lead nowhere or take for ever fail alone", async () => {
  const hostile = [
    { guided_grammar: "root ::= root" },
    { guided_grammar: "root ::= a\na ::= b\nb ::= a" },
    { guided_json: { $ref: "#" } },
    { guided_json: { anyOf: [{ $ref: "#" }] } },
    {
      guided_json: { type: "object", properties: { a: { $ref: "#" } }, required: ["a"] },
      max_tokens: 30,
    },
  ];
  const good = choicesOf({ guided_choice: ["yes"], temperature: 0 });
  for (const fields of hostile) {
    const response = await post(fields);
    const body = (await response.json()) as ChatCompletion;
    const ended = response.status === 400 || body.choices[0]?.finish_reason === "length";
    expect(ended, JSON.stringify(body)).toBe(true);
  }
  expect((await good)[0]?.message.content).toBe("yes");
  expect((await choicesOf({ guided_choice: ["yes"], temperature: 0 }))[0]?.message.content).toBe(
    "yes",
  );
});
