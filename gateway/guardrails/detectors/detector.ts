/** What finds things in a text, whole or as it comes. */

export type Match = {
  /** In UTF-16 units; `end` is exclusive. */
  start: number;
  end: number;
  /** What placeholders for it are called, such as `EMAIL`. */
  kind: string;
  /** What stands there, where it is written otherwise than it reads. */
  reads?: string;
};

export type Detector = {
  /**
   * All that lies at or after `from`, in order and without overlaps; what is before it only decides what may begin.
   * @throws HubError `request_too_large` for a text that would take too long
   */
  find(text: string, from: number): Match[];
  /** Where something may begin that only more text would show; the text's length where nothing may. */
  openFrom(text: string, from: number): number;
};

/** Finds what any of them finds; where two overlap, what begins first, and of those the longest. */
export function anyOf(detectors: readonly Detector[]): Detector {
  const [only] = detectors;
  if (only && detectors.length === 1) return only;
  return {
    find: (text, from) => withoutOverlaps(detectors.flatMap((it) => it.find(text, from))),
    openFrom: (text, from) => Math.min(...detectors.map((it) => it.openFrom(text, from))),
  };
}

export function withoutOverlaps(matches: Match[]): Match[] {
  matches.sort((a, b) => a.start - b.start || b.end - a.end);
  const kept: Match[] = [];
  let end = 0;
  for (const match of matches) {
    if (match.start < end) continue;
    kept.push(match);
    end = match.end;
  }
  return kept;
}

/** All matches of a pattern that has the flag `g`, those that `isReal` turns down left out. */
export function findAll(
  pattern: RegExp,
  text: string,
  {
    from,
    kind,
    isReal = () => true,
  }: { from: number; kind: string; isReal?: (found: string) => boolean },
): Match[] {
  const found: Match[] = [];
  pattern.lastIndex = from;
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    const [said] = match;
    if (isReal(said)) found.push({ start: match.index, end: match.index + said.length, kind });
  }
  return found;
}

/** Where the run of such characters begins that the text ends with. */
export function tailOf(
  text: string,
  from: number,
  isOne: (code: number) => boolean,
  charsMax: number,
): number {
  const least = Math.max(from, text.length - charsMax);
  let at = text.length;
  while (at > least && isOne(text.charCodeAt(at - 1))) at--;
  return at;
}

/** A set of ASCII characters, by code. */
export function charsOf(chars: string): (code: number) => boolean {
  const set = new Set([...chars].map((char) => char.charCodeAt(0)));
  return (code) => isAlphanumeric(code) || set.has(code);
}

function isAlphanumeric(code: number): boolean {
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
}
