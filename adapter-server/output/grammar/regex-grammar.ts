/** Regular expressions as grammars: of a whole output, and of a text inside of a JSON string. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { allBut, anyCharacter, type CodePoints, has, intersection } from "./code-points.ts";
import { type Expression, type GrammarText, literal, nothing, sequence } from "./grammar-text.ts";
import { parseRegex, type Regex } from "./regex.ts";

type Options = {
  text: GrammarText;
  /** What errors name. */
  param: string;
  /** Whether all of the text matches or, as in JSON Schema, a part that anchors may fix to its ends. */
  matches: "all" | "part";
  /** How one character of a set is written: options that begin with different characters. */
  characters: (set: CodePoints) => Expression[];
};

/** @throws HubError what `parseRegex` throws, and `unsupported_parameter` for anchors in the middle */
export function regexExpression(source: string, options: Options): Expression {
  const regex = parseRegex(source, options.param);
  const alternatives = regex.type === "choice" ? regex.options : [regex];
  const anything = options.text.repeat(options.characters(anyCharacter), 0);
  const around = options.matches === "part" ? anything : nothing;
  return options.text.choice(
    alternatives.map((alternative) => {
      const { inner, start, end } = withoutAnchors(alternative);
      const matched = toExpression(inner, options);
      return sequence([start ? nothing : around, matched, end ? nothing : around]);
    }),
  );
}

/** One character of a JSON string: as itself where JSON allows that, else by its escape. */
export function jsonCharacters(text: GrammarText, set: CodePoints): Expression[] {
  const escapes = [...mustEscape]
    .filter((character) => has(set, character.codePointAt(0) ?? 0))
    .map((character) => literal(JSON.stringify(character).slice(2, -1)));
  const escaped = escapes.length > 0 ? [sequence([literal("\\"), text.choice(escapes)])] : [];
  return [...text.characters(intersection(set, mayStand)), ...escaped];
}

function withoutAnchors(regex: Regex): { inner: Regex; start: boolean; end: boolean } {
  if (regex.type !== "sequence") return { inner: regex, start: false, end: false };
  const parts = [...regex.parts];
  const start = isAnchor(parts.at(0), "start");
  if (start) parts.shift();
  const end = isAnchor(parts.at(-1), "end");
  if (end) parts.pop();
  const [only] = parts;
  return { inner: only && parts.length === 1 ? only : { type: "sequence", parts }, start, end };
}

function isAnchor(part: Regex | undefined, at: "start" | "end"): boolean {
  return part?.type === "anchor" && part.at === at;
}

/** What is repeated: the characters of a set stay options of the repetition. */
function repeated(regex: Regex, options: Options): Expression | Expression[] {
  const [only] = regex.type === "sequence" ? regex.parts : [];
  const inner = regex.type === "sequence" && regex.parts.length === 1 && only ? only : regex;
  const isSet = inner.type === "characters" && inner.set.length > 0;
  return isSet ? options.characters(inner.set) : toExpression(inner, options);
}

function toExpression(regex: Regex, options: Options): Expression {
  switch (regex.type) {
    case "characters":
      if (regex.set.length > 0) return options.text.choice(options.characters(regex.set));
      throw new HubError("invalid_value", "The regular expression has a set of no characters.", {
        param: options.param,
      });
    case "sequence":
      return sequence(regex.parts.map((part) => toExpression(part, options)));
    case "choice":
      return options.text.choice(regex.options.map((option) => toExpression(option, options)));
    case "repeat":
      return options.text.repeat(repeated(regex.of, options), regex.min, regex.max);
    case "anchor":
      throw new HubError(
        "unsupported_parameter",
        "Regular expressions with anchors anywhere but at their ends are not supported.",
        { param: options.param },
      );
    default:
      return regex satisfies never;
  }
}

const controls = Array.from({ length: 0x20 }, (_, point) => String.fromCodePoint(point)).join("");
const mustEscape = `"\\${controls}`;
const mayStand: CodePoints = allBut([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
]);
