/** What a request says about the form of its output: OpenAI's `response_format`, vLLM's fields old and new. */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { refuseDeep } from "../../json-body.ts";
import type { CodePoints } from "./code-points.ts";
import { ebnfExpression } from "./ebnf.ts";
import { type Expression, GrammarText, type GrammarTextLimits, literal } from "./grammar-text.ts";
import { JsonText } from "./json-text.ts";
import type { Grammar } from "./matchers.ts";
import { regexExpression } from "./regex-grammar.ts";
import { schemaExpression } from "./schema-grammar.ts";

const choices = z.array(z.string().min(1).max(10_000)).min(1).max(1_000);
const jsonSchema = z.union([z.string(), z.boolean(), z.record(z.string(), z.unknown())]);

export const structuredOutputFields = {
  response_format: z
    .discriminatedUnion("type", [
      z.looseObject({ type: z.literal("text") }),
      z.looseObject({ type: z.literal("json_object") }),
      z.looseObject({
        type: z.literal("json_schema"),
        json_schema: z.looseObject({
          name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/),
          schema: z.record(z.string(), z.unknown()).nullish(),
          strict: z.boolean().nullish(),
          description: z.string().nullish(),
        }),
      }),
    ])
    .nullish(),
  /** As vLLM has it. */
  structured_outputs: z
    .strictObject({
      json: jsonSchema.nullish(),
      regex: z.string().nullish(),
      choice: choices.nullish(),
      grammar: z.string().nullish(),
      json_object: z.boolean().nullish(),
      // Outputs have no white space to speak of, and no properties beside those that a schema names.
      disable_any_whitespace: z.boolean().nullish(),
      disable_additional_properties: z.boolean().nullish(),
    })
    .nullish(),
  guided_json: jsonSchema.nullish(),
  guided_regex: z.string().nullish(),
  guided_choice: choices.nullish(),
  guided_grammar: z.string().nullish(),
};
const fields = z.object(structuredOutputFields);

/** Whether the request gives its output a form. */
export function hasForm(request: z.infer<typeof fields>): boolean {
  return wishesOf(request).length > 0;
}

/**
 * The grammar that the output has to follow; absent where it is free.
 * @param calls what else the output may be, such as tool calls
 * @throws HubError `invalid_value`, `unsupported_parameter` that names the field, down to a schema's keyword
 */
export function readStructuredOutput(
  request: z.infer<typeof fields>,
  limits: GrammarTextLimits,
  calls?: (text: GrammarText) => Expression,
): Grammar | undefined {
  const wishes = wishesOf(request);
  const [only, another] = wishes;
  if (!only && !calls) return undefined;
  if (only && another) {
    throw new HubError(
      "invalid_value",
      `An output has one form: '${only.param}' and '${another.param}' are both given.`,
      { param: another.param },
    );
  }
  const text = new GrammarText(limits);
  const forms = [
    ...(only ? [only.expression(text, only.param)] : []),
    ...(calls ? [calls(text)] : []),
  ];
  return text.grammar(text.choice(forms));
}

type Wish = { param: string; expression: (text: GrammarText, param: string) => Expression };

function wishesOf(request: z.infer<typeof fields>): Wish[] {
  const { response_format: format, structured_outputs: structured } = request;
  const { guided_json, guided_regex, guided_choice, guided_grammar } = request;
  const schema = format?.type === "json_schema" ? format.json_schema.schema : undefined;
  const isObject = format?.type === "json_object" || (format?.type === "json_schema" && !schema);
  const wish = <T>(
    param: string,
    value: T | null | undefined | false,
    expression: (value: T, text: GrammarText, param: string) => Expression,
  ): Wish[] =>
    value === undefined || value === null || value === false
      ? []
      : [{ param, expression: (text, at) => expression(value, text, at) }];
  const object = (_: unknown, text: GrammarText) => new JsonText(text).object();
  return [
    ...wish("response_format.json_schema.schema", schema, schemaExpression),
    ...wish("response_format.type", isObject, object),
    ...wish("structured_outputs.json", structured?.json, writtenSchema),
    ...wish("structured_outputs.regex", structured?.regex, regex),
    ...wish("structured_outputs.choice", structured?.choice, choice),
    ...wish("structured_outputs.grammar", structured?.grammar, ebnfExpression),
    ...wish("structured_outputs.json_object", structured?.json_object, object),
    ...wish("guided_json", guided_json, writtenSchema),
    ...wish("guided_regex", guided_regex, regex),
    ...wish("guided_choice", guided_choice, choice),
    ...wish("guided_grammar", guided_grammar, ebnfExpression),
  ];
}

/** A schema, or the text of one. */
function writtenSchema(schema: unknown, text: GrammarText, param: string): Expression {
  if (typeof schema !== "string") return schemaExpression(schema, text, param);
  let parsed: unknown;
  try {
    parsed = JSON.parse(schema);
  } catch {
    throw new HubError(
      "invalid_value",
      `'${param}' is neither a JSON schema nor the text of one.`,
      {
        param,
      },
    );
  }
  refuseDeep(parsed, param);
  return schemaExpression(parsed, text, param);
}

function regex(source: string, text: GrammarText, param: string): Expression {
  const characters = (set: CodePoints) => text.characters(set);
  return regexExpression(source, { text, param, matches: "all", characters });
}

function choice(options: readonly string[], text: GrammarText): Expression {
  return text.choice(options.map(literal));
}
