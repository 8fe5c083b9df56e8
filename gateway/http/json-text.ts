/** What `JSON.parse` does not tell of a text: how deep it is nested, and the very characters of each member. */

/**
 * Whether arrays and objects lie in each other more than `max` deep. `JSON.parse` takes any depth, and what
 * walks over its result by recursion then runs out of stack.
 * @param text valid JSON
 */
export function isNestedDeeper(text: string, max: number): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === quote) at = closingQuote(text, at + 1);
    else if (char === openBrace || char === openBracket) {
      if (++depth > max) return true;
    } else if (char === closeBrace || char === closeBracket) depth--;
  }
  return false;
}

/**
 * Whether there are more than `max` values in all, members of objects and items of lists. Of a text that is no JSON the
 * answer means nothing.
 */
export function hasMoreValues(text: string, max: number): boolean {
  // Each value but the first has a comma or an opening bracket before it.
  if (text.length / 2 <= max) return false;
  let count = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === quote) at = closingQuote(text, at + 1);
    else if ((char === comma || char === openBrace || char === openBracket) && ++count > max) {
      return true;
    }
  }
  return false;
}

/** Whether a text may hold a number that a double does not: some 64-bit `seed`, or one beyond its range. */
export function mayLoseNumbers(text: string): boolean {
  return /\d{16}|\d[eE]\+?\d{3}/.test(text);
}

/**
 * The characters of each member's value of an object; of several with one name the last, as `JSON.parse`
 * has it.
 * @param text valid JSON of an object
 */
export function membersOf(text: string): Map<string, string> {
  const members = new Map<string, string>();
  let name: string | undefined;
  let from = 0;
  const endMember = (at: number): void => {
    if (name !== undefined) members.set(name, text.slice(from, at).trim());
    name = undefined;
    from = at + 1;
  };
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === quote) at = closingQuote(text, at + 1);
    else if (char === openBrace || char === openBracket) {
      if (++depth === 1) from = at + 1;
    } else if (char === closeBrace || char === closeBracket) {
      if (depth-- === 1) endMember(at);
    } else if (depth === 1 && char === comma) endMember(at);
    else if (depth === 1 && char === colon) {
      name = JSON.parse(text.slice(from, at)) as string;
      from = at + 1;
    }
  }
  return members;
}

/**
 * A parsed number is a double, which rounds a 64-bit `seed`; so what was not changed goes out in the
 * characters in which it came, where that can matter.
 */
export function writeJson(
  body: Record<string, unknown>,
  source: { value: Readonly<Record<string, unknown>>; text: string } | undefined,
): string {
  if (source === undefined) return JSON.stringify(body);
  const texts = membersOf(source.text);
  const members = Object.entries(body).map(([name, value]) => {
    const same = Object.hasOwn(source.value, name) && source.value[name] === value;
    return `${JSON.stringify(name)}:${(same && texts.get(name)) || JSON.stringify(value)}`;
  });
  return `{${members.join(",")}}`;
}

/** Index of the quote that ends the string, or the text's end. */
export function closingQuote(text: string, from: number): number {
  for (let at = text.indexOf('"', from); at !== -1; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === backslash) backslashes++;
    if (backslashes % 2 === 0) return at;
  }
  return text.length;
}

const quote = 34;
const comma = 44;
const colon = 58;
const openBracket = 91;
const backslash = 92;
const closeBracket = 93;
const openBrace = 123;
const closeBrace = 125;
