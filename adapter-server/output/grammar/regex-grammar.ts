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
  /** How one character of a set is written. */
  character: (set: CodePoints) => Expression;
};

/** @throws HubError what `parseRegex` throws, and `unsupported_parameter` for anchors in the middle */
export function regexExpression(source: string, options: Options): Expression {
  const regex = parseRegex(source, options.param);
  const alternatives = regex.type === "choice" ? regex.options : [regex];
  const anything = options.text.repeat(options.character(anyCharacter), 0);
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
export function jsonCharacter(text: GrammarText, set: CodePoints): Expression {
  const escapes = [...mustEscape]
    .filter((character) => has(set, character.codePointAt(0) ?? 0))
    .map((character) => literal(JSON.stringify(character).slice(1, -1)));
  const rest = intersection(set, mayStand);
  return text.choice([...(rest.length > 0 ? [text.character(rest)] : []), ...escapes]);
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

function toExpression(regex: Regex, options: Options): Expression {
  switch (regex.type) {
    case "characters":
      if (regex.set.length > 0) return options.character(regex.set);
      throw new HubError("invalid_value", "The regular expression has a set of no characters.", {
        param: options.param,
      });
    case "sequence":
      return sequence(regex.parts.map((part) => toExpression(part, options)));
    case "choice":
      return options.text.choice(regex.options.map((option) => toExpression(option, options)));
    case "repeat":
      return options.text.repeat(toExpression(regex.of, options), regex.min, regex.max);
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
