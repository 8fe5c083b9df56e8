/** JSON without the freedoms that parsers disagree about: no duplicate keys, no deep nesting, plain UTF-8. */

/** What made a text unacceptable; callers turn it into an error that names their file. */
export class StrictJsonError extends Error {
  override readonly name = "StrictJsonError";
}

/**
 * @param bytes    UTF-8 without a byte order mark
 * @param depthMax arrays and objects inside each other; a flat object has depth 1
 * @throws StrictJsonError for bad UTF-8, bad JSON, a key given twice, or too deep nesting
 * @see RFC 8259 §4, which leaves the meaning of duplicate names open
 */
export function parseStrictJson(bytes: Uint8Array, depthMax: number): unknown {
  const text = decode(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new StrictJsonError("is not JSON", { cause });
  }
  checkNestingAndKeys(text, depthMax);
  return value;
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new StrictJsonError("is not UTF-8", { cause });
  }
}

/** One pass over a text that is known to be valid JSON, so only strings and brackets matter. */
function checkNestingAndKeys(text: string, depthMax: number): void {
  /** The keys seen in each open object; `undefined` stands for an open array. */
  const open: (Set<string> | undefined)[] = [];
  let keyExpected = false;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case OPEN_OBJECT:
      case OPEN_ARRAY: {
        const isObject = text.charCodeAt(i) === OPEN_OBJECT;
        if (open.length === depthMax) {
          throw new StrictJsonError(`nests deeper than ${depthMax} levels`);
        }
        open.push(isObject ? new Set() : undefined);
        keyExpected = isObject;
        break;
      }
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        open.pop();
        keyExpected = false;
        break;
      case COMMA:
        keyExpected = open.at(-1) !== undefined;
        break;
      case QUOTE: {
        const end = stringEnd(text, i);
        const keys = open.at(-1);
        if (keyExpected && keys !== undefined) {
          const key = String(JSON.parse(text.slice(i, end)));
          if (keys.has(key)) throw new StrictJsonError(`has the key '${key.slice(0, 200)}' twice`);
          keys.add(key);
          keyExpected = false;
        }
        i = end - 1;
        break;
      }
    }
  }
}

/** The index after the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  let i = start + 1;
  while (text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
  return i + 1;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
