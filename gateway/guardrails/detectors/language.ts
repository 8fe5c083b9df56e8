/** Whether a text is in one of the languages that a guard lets pass, as far as that can be told. */
import type { DetectedLanguage } from "../../../sdk/protocol/guardrails.ts";

export type LanguageRule = {
  isFine: (language: DetectedLanguage) => boolean;
  /** By how much one side's best has to fit better than the other's, from 0 to 1. */
  confidence: number;
};

/** `unknown`: nothing in the text could be told apart well enough. */
export type LanguageVerdict = "fine" | "other" | "unknown";

/**
 * The text is looked at in pieces, each by which of the rule's two sides has the language that fits it best: that
 * neighbours such as Norwegian and Danish are hard to tell apart matters only where the rule divides them. It is
 * `other` where that holds for a quarter of what could be told.
 */
export async function judgeLanguage(text: string, rule: LanguageRule): Promise<LanguageVerdict> {
  const plain = spread(text);
  const pieces = piecesOf(plain);
  if (pieces.length === 0) return "unknown";
  const fitOf = await loadFit();
  const letters = { fine: 0, other: 0, unknown: 0 };
  for (const piece of pieces) letters[judgePiece(fitOf(piece), rule)] += lettersIn(piece);
  if (letters.fine + letters.other === 0) return "unknown";
  const told = letters.fine + letters.other;
  if (letters.other >= told * otherShareMin) return "other";
  const fenced = fencedProse(plain);
  return fenced >= (told + fenced) * otherShareMin ? "unknown" : "fine";
}

/** Letters of what stands in fences and is no code by its looks: a language is not hidden by calling it code. */
function fencedProse(text: string): number {
  let letters = 0;
  for (const [fenced] of text.matchAll(fence)) {
    for (const line of fenced.split("\n").slice(1)) {
      if (!/[{}()[\]<>=;|\\/$#_*+&^~"`@%]/.test(line)) letters += lettersIn(line);
    }
  }
  return letters;
}

/** How well each language fits, in evidence that adds up. */
type Fit = (text: string) => ReadonlyMap<DetectedLanguage, number>;

function judgePiece(fits: ReturnType<Fit>, { isFine, confidence }: LanguageRule): LanguageVerdict {
  let [fine, other] = [0, 0];
  for (const [language, evidence] of fits) {
    if (isFine(language)) fine = Math.max(fine, evidence);
    else other = Math.max(other, evidence);
  }
  const best = Math.max(fine, other);
  if (best < evidenceMin || 1 - Math.min(fine, other) / best < confidence) return "unknown";
  return fine > other ? "fine" : "other";
}

/**
 * Lines and sentences, put together up to what the detector reads of a text. What is in no language is left out: code,
 * addresses, numbers, placeholders.
 */
function piecesOf(text: string): string[] {
  const plain = text
    .replace(fence, "\n")
    .replace(/`[^`\n]{0,200}`/g, " ")
    .replace(/(?:[\w+.-]{1,64}:\/\/|www\.)\S{1,2000}/g, " ")
    .replace(/\S{0,64}@\S{1,255}/g, " ")
    .replace(/\[[A-Z][A-Z_]{0,39}_?\d{0,6}\]/g, " ")
    .replace(/[\w-]{0,64}[\d_][\w-]{0,64}/g, " ");
  const pieces: string[] = [];
  let piece = "";
  for (const sentence of plain.split(/\n+|(?<=[.!?。！？])\s*/)) {
    if (piece !== "" && piece.length + sentence.length > pieceCharsMax) {
      pieces.push(piece);
      piece = "";
    }
    piece = piece === "" ? sentence : `${piece} ${sentence}`;
    for (; piece.length > pieceCharsMax; piece = piece.slice(pieceCharsMax)) {
      pieces.push(piece.slice(0, pieceCharsMax));
    }
  }
  if (piece !== "") pieces.push(piece);
  return evenly(pieces.filter((one) => lettersIn(one) >= lettersMin));
}

const fence = /```[^`]{0,100000}(?:```|$)/g;

/** Of a very long text, parts from its beginning to its end. */
function spread(text: string): string {
  if (text.length <= charsMax) return text;
  const part = Math.floor(charsMax / piecesMax);
  return Array.from({ length: piecesMax }, (_, index) => {
    const start = Math.floor((index * (text.length - part)) / (piecesMax - 1));
    return text.slice(start, start + part);
  }).join("\n");
}

/** No more than may be looked at, from all over the text. */
function evenly(pieces: string[]): string[] {
  if (pieces.length <= piecesMax) return pieces;
  return Array.from(
    { length: piecesMax },
    (_, index) => pieces[Math.floor((index * pieces.length) / piecesMax)] as string,
  );
}

function lettersIn(text: string): number {
  return text.match(/\p{L}/gu)?.length ?? 0;
}

let loading: Promise<Fit> | undefined;

/** The tables take 30 MB of memory, so they are there only once a project wants them. */
function loadFit(): Promise<Fit> {
  loading ??= import("eld/extrasmall").then(({ eld }) => (text: string) => {
    const scores = Object.entries(eld.detect(text).getScores());
    // Scores are e / (e + 25); what lies behind them are sums over n-grams, and comparable.
    return new Map(
      scores.map(([language, score]) => [language as DetectedLanguage, (25 * score) / (1 - score)]),
    );
  });
  return loading;
}

/** A score of a half. Less is what chance gives to what is in none of the languages. */
const evidenceMin = 25;
const otherShareMin = 0.25;
/** The detector reads 350 bytes. */
const pieceCharsMax = 160;
const piecesMax = 64;
/** Of Chinese, three make a sentence. */
const lettersMin = 3;
const charsMax = 200_000;
