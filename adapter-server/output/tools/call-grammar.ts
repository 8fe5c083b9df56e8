/** Tool calls as grammars: alone, or among text that is free. */
import { allBut } from "../grammar/code-points.ts";
import {
  type Expression,
  type GrammarText,
  literal,
  nothing,
  sequence,
} from "../grammar/grammar-text.ts";
import { JsonText } from "../grammar/json-text.ts";
import { schemaExpression } from "../grammar/schema-grammar.ts";
import { marksOf, type Tool, type ToolFormat } from "./formats.ts";

type Calls = {
  tools: readonly Tool[];
  format: ToolFormat;
  /** At least 1; more are written one after the other. */
  callsMax: number;
};

/**
 * Calls of these tools and nothing else, as the family writes them.
 * @throws HubError that names what of a tool's parameters cannot be kept
 */
export function callsExpression(text: GrammarText, calls: Calls): Expression {
  const { format, callsMax } = calls;
  const { start, control } = marksOf[format];
  const object = oneCall(text, calls);
  if (control) {
    if (callsMax === 1) return object;
    const more = sequence([new JsonText(text).comma(), object]);
    return sequence([literal("["), object, text.repeat(more, 0, callsMax - 1), literal("]")]);
  }
  const call = sequence([literal(start), behindMark(object, format)]);
  return sequence([call, text.repeat(sequence([literal("\n"), call]), 0, callsMax - 1)]);
}

/** Any text; where it comes to the mark of a call, a call follows. Only for marks that are text. */
export function callsAmongText(text: GrammarText, calls: Calls): Expression {
  const { start } = marksOf[calls.format];
  const behind = behindMark(oneCall(text, calls), calls.format);
  const states = Array.from(start, () => text.declare());
  const [free = nothing] = states;
  const after = calls.callsMax === 1 ? behind : sequence([behind, free]);
  const signs = [...new Set(start)];
  const others = text.characters(allBut(signs.map((sign) => [pointOf(sign), pointOf(sign)])));
  for (const [matched, state] of states.entries()) {
    const moves = signs.map((sign) => {
      const next = matchedBy(start, start.slice(0, matched) + sign);
      return sequence([literal(sign), next === start.length ? after : (states[next] ?? free)]);
    });
    const onwards = others.map((other) => sequence([other, free]));
    text.define(state, text.branch([nothing, ...onwards, ...moves]));
  }
  return free;
}

function oneCall(text: GrammarText, { tools, format }: Calls): Expression {
  const { argumentsName } = marksOf[format];
  return text.choice(
    tools.map(({ name, parameters, param }) =>
      sequence([
        literal(`{"name": ${JSON.stringify(name)}, ${JSON.stringify(argumentsName)}: `),
        schemaExpression(parameters ?? noParameters, text, param),
        literal("}"),
      ]),
    ),
  );
}

function behindMark(object: Expression, format: ToolFormat): Expression {
  return sequence([literal("\n"), object, literal(`\n${marksOf[format].end ?? ""}`)]);
}

/** How much of the mark the text ends with. @see Knuth, Morris, Pratt */
function matchedBy(mark: string, text: string): number {
  let length = Math.min(mark.length, text.length);
  while (length > 0 && !text.endsWith(mark.slice(0, length))) length--;
  return length;
}

function pointOf(sign: string): number {
  return sign.codePointAt(0) ?? 0;
}

const noParameters = { type: "object", properties: {}, additionalProperties: false };
