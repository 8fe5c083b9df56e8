/**
 * Bytes in an alphabet of ASCII alone. xgrammar's WebAssembly build (0.1.27) reads character classes wrongly beyond
 * ASCII: `[\u0080-\u00ff]` takes nothing, and `[\ue000-\U0010ffff]` takes an "a". So our grammars and the tokens they
 * are matched over spell every other byte as two ASCII characters, and neither sees a class beyond ASCII.
 */

/** Printable ASCII, tabs and line ends stand for themselves. */
export function isPlain(byte: number): boolean {
  return (byte >= 0x20 && byte < 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}

/** The two characters that another byte is spelled with: which quarter of the bytes it is in, and where in that. */
export function spelled(byte: number): [quarter: number, place: number] {
  return [1 + (byte >> 6), 0x40 + (byte & 63)];
}

export function toAscii(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    text += isPlain(byte) ? String.fromCharCode(byte) : String.fromCharCode(...spelled(byte));
  }
  return text;
}
