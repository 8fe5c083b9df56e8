/** Sets of Unicode characters as ranges, and how UTF-8 writes them. */

/** Inclusive ranges in ascending order that do not touch; surrogates are in none. */
export type CodePoints = readonly (readonly [from: number, to: number])[];

/** @param ranges in any order, as they come */
export function codePoints(ranges: CodePoints): CodePoints {
  const merged: [number, number][] = [];
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged.flatMap(withoutSurrogates);
}

export function allBut(set: CodePoints): CodePoints {
  const rest: [number, number][] = [];
  let from = 0;
  for (const [start, end] of codePoints(set)) {
    if (start > from) rest.push([from, start - 1]);
    from = end + 1;
  }
  if (from <= last) rest.push([from, last]);
  return codePoints(rest);
}

export function intersection(a: CodePoints, b: CodePoints): CodePoints {
  return allBut([...allBut(a), ...allBut(b)]);
}

export function has(set: CodePoints, point: number): boolean {
  return set.some(([from, to]) => from <= point && point <= to);
}

/** A range of bytes for each byte of a character. */
export type ByteRanges = (readonly [from: number, to: number])[];

/**
 * Sequences of byte ranges that together are the UTF-8 of exactly the set.
 * @see https://swtch.com/~rsc/regexp/regexp3.html on how RE2 does it
 */
export function utf8Ranges(set: CodePoints): ByteRanges[] {
  return set
    .flatMap(([from, to]) => splitByLength(from, to))
    .flatMap(([from, to]) => split(from, to));
}

function splitByLength(from: number, to: number): [number, number][] {
  const parts: [number, number][] = [];
  let start = from;
  for (const end of [0x7f, 0x7ff, 0xffff, last]) {
    if (start > to) break;
    if (start > end) continue;
    parts.push([start, Math.min(to, end)]);
    start = end + 1;
  }
  return parts;
}

/** @param from and `to` take equally many bytes */
function split(from: number, to: number): ByteRanges[] {
  for (const bits of [6, 12, 18]) {
    const mask = (1 << bits) - 1;
    if (from >> bits === to >> bits) continue;
    if ((from & mask) !== 0 && from > 0x7f) return cut(from, from | mask, to);
    if ((to & mask) !== mask && to > 0x7f) return cut(from, (to & ~mask) - 1, to);
  }
  const [low, high] = [utf8(from), utf8(to)];
  return [low.map((byte, index) => [byte, high[index] ?? byte] as const)];
}

function cut(from: number, middle: number, to: number): ByteRanges[] {
  return [...split(from, middle), ...split(middle + 1, to)];
}

function utf8(point: number): number[] {
  return [...new TextEncoder().encode(String.fromCodePoint(point))];
}

function withoutSurrogates([from, to]: readonly [number, number]): [number, number][] {
  const parts: [number, number][] = [
    [from, Math.min(to, 0xd7ff)],
    [Math.max(from, 0xe000), to],
  ];
  return parts.filter(([start, end]) => start <= end);
}

const last = 0x10ffff;
export const anyCharacter: CodePoints = codePoints([[0, last]]);
