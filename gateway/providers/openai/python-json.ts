/** JSON as servers in Python write it, which have words for numbers that JSON does not know. */

/**
 * Odds of nothing are written as `-Infinity` or `NaN`; they become -9999, as vLLM writes them, and clients can read them.
 * @returns undefined for what is no JSON even so
 */
export function parseJsonOfPython(text: string): unknown {
  return parse(text) ?? parse(text.replace(notNumbers, "$1-9999"));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const notNumbers = /([[:,]\s*)(?:-?Infinity|NaN)(?=\s*[\]},])/g;
