/** Finds what is written otherwise than it reads: with JSON's escapes, characters that nobody sees, or look-alikes. */
import { type Detector, type Match, withoutOverlaps } from "./detector.ts";

/**
 * A detector that looks at a text as it is written, and as it reads. Matches are places in the text as it is written;
 * `reads` tells what stands there. How a text reads takes many times its room, so a long one is read in pieces.
 */
export function throughDisguises(detector: Detector): Detector {
  return {
    find(text, from) {
      const found = detector.find(text, from);
      if (!disguised.test(text)) return found;
      return withoutOverlaps([
        // What begins or ends inside of an escape, such as with the `n` of `\n`, is misread.
        ...found.filter(({ start, end }) => !splits(text, start) && !splits(text, end)),
        ...findInPieces(detector, text, from),
      ]);
    },
    openFrom(text, from) {
      const cut = Math.max(0, text.length - openCharsMax - contextChars);
      return cut + openIn(detector, text.slice(cut), Math.max(0, from - cut));
    },
  };
}

/** As a text is found in that comes bit by bit: what more of it could make longer, or another, is looked at again with more. */
function findInPieces(detector: Detector, text: string, from: number): Match[] {
  const found: Match[] = [];
  let [at, chars] = [from, pieceChars];
  while (at < text.length) {
    const context = Math.max(0, at - contextChars);
    const end = Math.min(text.length, at + chars);
    const piece = text.slice(context, end);
    const isEnd = end === text.length || chars >= openCharsMax;
    const { matches, until } = findIn(detector, piece, { from: at - context, isEnd });
    for (const match of matches) {
      found.push({ ...match, start: match.start + context, end: match.end + context });
    }
    chars = context + until > at ? pieceChars : chars * 2;
    at = context + until;
  }
  return found;
}

/** @returns what is found as the text reads, and up to where that is sure */
function findIn(
  detector: Detector,
  text: string,
  { from, isEnd }: { from: number; isEnd: boolean },
): { matches: Match[]; until: number } {
  const until = isEnd ? text.length : openIn(detector, text, from);
  const all = withoutOverlaps(viewsOf(text).flatMap((view) => view.find(detector, from)));
  const open = all.findIndex(
    ({ start, end }) => start >= until || (!isEnd && (end > until || end === text.length)),
  );
  if (open === -1) return { matches: all, until };
  return { matches: all.slice(0, open), until: Math.min(until, all[open]?.start ?? until) };
}

function openIn(detector: Detector, text: string, from: number): number {
  // What an escape that is not over will be may go on with what stands before it.
  const begun = unfinished.exec(text)?.index ?? text.length;
  const known = begun === text.length ? [text] : [text, text.slice(0, begun)];
  const open = known.flatMap((one) => [
    detector.openFrom(one, from),
    ...viewsOf(one).map((view) => view.openFrom(detector, from)),
  ]);
  return Math.max(from, Math.min(begun, ...open));
}

/** Whether a place in a text lies inside of what reads as one character. */
function splits(text: string, at: number): boolean {
  const start = Math.max(0, at - escapeCharsMax);
  for (const { index, 0: one } of text.slice(start, at + escapeCharsMax).matchAll(escapeOrChar)) {
    if (start + index >= at) return false;
    if (start + index + one.length > at) return true;
  }
  return false;
}

let last: { text: string; views: readonly View[] } | undefined;

/** The text as it reads, where it is written otherwise: in its own letters, and with Latin ones for what looks like them. */
function viewsOf(text: string): readonly View[] {
  // A text is looked at several times in a row, and nobody's is kept after that.
  if (!last) queueMicrotask(forgetLast);
  if (last?.text !== text) last = { text, views: readViews(text) };
  return last.views;
}

function forgetLast(): void {
  last = undefined;
}

function readViews(text: string): readonly View[] {
  if (!disguised.test(text)) return [];
  const view = readView(text);
  const latin = view.text.replace(/[^\0-\u024f]/g, (char) => lookAlikes.get(char) ?? char);
  return latin === view.text ? [view] : [view, view.in(latin)];
}

function readView(written: string): View {
  let text = "";
  const starts = new Uint32Array(written.length * charsOfOneMax);
  const ends = new Uint32Array(written.length * charsOfOneMax);
  for (const match of written.matchAll(escapeOrChar)) {
    const char = readChar(match);
    starts.fill(match.index, text.length, text.length + char.length);
    ends.fill(match.index + match[0].length, text.length, text.length + char.length);
    text += char;
  }
  return new View(text, {
    starts: starts.slice(0, text.length),
    ends: ends.slice(0, text.length),
    writtenLength: written.length,
  });
}

function readChar([written, hex, short]: RegExpExecArray): string {
  if (short !== undefined) return shortEscapes[short] ?? short;
  const char = hex === undefined ? written : String.fromCharCode(Number.parseInt(hex, 16));
  if (char < "\u0080") return char;
  const code = char.codePointAt(0) ?? 0;
  // Letters that no screen shows, and models read.
  if (code >= 0xe0020 && code <= 0xe007e) return String.fromCharCode(code - 0xe0000);
  if (unseen.test(char)) return "";
  const plain = char.normalize("NFKC");
  return plain.length > charsOfOneMax ? char : plain;
}

/** Where each of its characters is in the text as it is written. */
type Places = { starts: Uint32Array; ends: Uint32Array; writtenLength: number };

class View {
  readonly text: string;
  readonly #places: Places;

  constructor(text: string, places: Places) {
    this.text = text;
    this.#places = places;
  }

  /** The same with other characters in the same places. */
  in(text: string): View {
    return new View(text, this.#places);
  }

  find(detector: Detector, from: number): Match[] {
    const { starts, ends } = this.#places;
    return detector.find(this.text, this.#indexOf(from)).map(({ start, end, kind }) => ({
      start: starts[start] as number,
      end: ends[end - 1] as number,
      kind,
      reads: this.text.slice(start, end),
    }));
  }

  openFrom(detector: Detector, from: number): number {
    const { starts, writtenLength } = this.#places;
    return starts[detector.openFrom(this.text, this.#indexOf(from))] ?? writtenLength;
  }

  /** Of the first character that begins at a place or after it. */
  #indexOf(at: number): number {
    const { starts } = this.#places;
    let [low, high] = [0, starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What is read at a time: about a millisecond's work. */
const pieceChars = 8192;
/** What stays open longer is taken for what it is so far. */
const openCharsMax = 32_768;
/** Of what stands before, by which words' beginnings are known. */
const contextChars = 64;
/** Longer than any escape. */
const escapeCharsMax = 16;
/** Of ligatures such as `ﬃ`; one character that stands for a phrase of 18 is left as it is. */
const charsOfOneMax = 3;

/** Escapes of JSON that stands in JSON have several backslashes. */
const escapeOrChar = /\\{1,8}(?:u([0-9a-fA-F]{4})|(["/bfnrt]))|[\s\S]/gu;
const shortEscapes: Readonly<Record<string, string>> = {
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};
/** An escape of which more may come, and half of a character. */
const unfinished = /(?:\\{1,8}(?:u[0-9a-fA-F]{0,3})?|[\ud800-\udbff])$/;

/** Most texts have none of these, and are read as they are written. */
const disguised =
  /\\(?:u[0-9a-fA-F]{4}|["/bfnrt])|[^\0-\u024f]|[\u00a0\u00aa\u00ad\u00b2\u00b3\u00b5\u00b9\u00ba\u00bc-\u00be]/;

/** Formats, joiners and selectors, fillers, and lines that run through the letter before them. */
const unseen =
  /\p{Cf}|\u034f|[\u0335-\u0338]|\u115f|\u1160|\u17b4|\u17b5|\u3164|[\ufe00-\ufe0f]|[\u{e0100}-\u{e01ef}]/u;

/**
 * Letters of other scripts that look like Latin ones in most typefaces.
 * @see Unicode Technical Standard 39, confusables.txt
 */
const lookAlikes: ReadonlyMap<string, string> = new Map([
  ...pairs("АВЕЅІЈКМНОРСТХҮԌԚԜ", "ABESIJKMHOPCTXYGQW"),
  ...pairs("аеѕіјорсухһԁԛԝѵԍӏ", "aesijopcyxhdqwvgl"),
  ...pairs("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϺ", "ABEZHIKMNOPTYXM"),
  ...pairs("αινορτυϳγκ", "aivoptujyk"),
  ...pairs("ɑɡɩոսօ", "aginuo"),
  ...pairs("ᎪᏴᏟᎬᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᏔᏃ", "ABCEHJKLMPRSTVWZ"),
]);

function pairs(letters: string, latin: string): [string, string][] {
  return [...letters].map((letter, index) => [letter, latin[index] as string]);
}
