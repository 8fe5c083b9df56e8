/** What may be kept of a prompt or an answer: no credentials, nothing that identifies people, no pictures, and not too much. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PiiKind } from "../../sdk/protocol/guardrails.ts";
import { anyOf, type Detector } from "../guardrails/detectors/detector.ts";
import { throughDisguises } from "../guardrails/detectors/disguises.ts";
import { piiDetector } from "../guardrails/detectors/pii.ts";
import { secretsDetector } from "../guardrails/detectors/secrets.ts";
import { TextStage } from "../guardrails/text-stage.ts";

export type Redacted = {
  value: unknown;
  /** What was taken out, by kind. */
  found: Record<string, number>;
  /** Whether something at the end was left out because there was too much. */
  truncated: boolean;
};

/** Credentials always; of what identifies people the kinds that the project wants out; however they are written. */
export function contentDetector(kinds: readonly PiiKind[]): Detector {
  return throughDisguises(
    anyOf([secretsDetector, ...(kinds.length > 0 ? [piiDetector(kinds)] : [])]),
  );
}

/**
 * A copy of JSON in which each find is its kind in brackets. Every text is looked at, names of members and long numbers
 * too: nothing works with the copy, so that no word of a protocol has to survive. What comes after `charsMax` characters
 * is left out, and so is the end of a cut text that may be the beginning of a find.
 *
 * It gives way to others after each piece, because a long prompt takes milliseconds.
 */
export async function redact(
  value: unknown,
  { detector, charsMax }: { detector: Detector; charsMax: number },
): Promise<Redacted> {
  const run = new Run(detector, charsMax);
  return { value: await run.copy(value, ""), found: run.found, truncated: run.truncated };
}

class Run {
  readonly found: Record<string, number> = {};
  truncated = false;
  readonly #detector: Detector;
  #charsLeft: number;
  #charsInTurn = 0;

  constructor(detector: Detector, charsMax: number) {
    this.#detector = detector;
    this.#charsLeft = charsMax;
  }

  async copy(value: unknown, name: string): Promise<unknown> {
    this.#charsLeft -= valueChars;
    if (typeof value === "string") {
      return name === "arguments" ? this.#argumentsOf(value) : this.#text(value);
    }
    if (typeof value === "number") {
      const text = String(value);
      if (text.length < longNumberDigits) return value;
      const kept = await this.#text(text);
      return kept === text ? value : kept;
    }
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (const item of value) {
        if (this.#isFull()) break;
        items.push(await this.copy(item, name));
      }
      return items;
    }
    if (typeof value !== "object" || value === null) return value;
    const members: [string, unknown][] = [];
    for (const [key, one] of Object.entries(value)) {
      if (one === undefined) continue;
      if (this.#isFull()) break;
      members.push([await this.#text(key), await this.copy(one, key)]);
    }
    return Object.fromEntries(members);
  }

  /** JSON that stands in a text: what is escaped in it is looked at as what it stands for. */
  async #argumentsOf(text: string): Promise<string> {
    // Of one that has no room left, only the beginning is kept, and that is no JSON.
    if (text.length > this.#charsLeft) return this.#text(text);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return this.#text(text);
    }
    return JSON.stringify(await this.copy(value, ""));
  }

  async #text(text: string): Promise<string> {
    if (isBase64(text)) return `[${text.length} characters of base64]`;
    const end = Math.min(text.length, Math.max(0, this.#charsLeft));
    this.#charsLeft -= end;
    const stage = new TextStage(this.#detector, (_found, { kind }) => {
      this.found[kind] = (this.found[kind] ?? 0) + 1;
      return `[${kind}]`;
    });
    let kept = "";
    for (let at = 0; at < end; at += pieceChars) {
      const piece = text.slice(at, Math.min(end, at + pieceChars));
      kept += stage.push(piece);
      this.#charsInTurn += piece.length;
      if (this.#charsInTurn < pieceChars) continue;
      this.#charsInTurn = 0;
      await nextTurn();
    }
    if (end === text.length) return kept + stage.end();
    this.truncated = true;
    return kept;
  }

  #isFull(): boolean {
    if (this.#charsLeft > 0) return false;
    this.truncated = true;
    return true;
  }
}

/** Pictures, sounds and files, into which nobody looks. */
function isBase64(text: string): boolean {
  if (text.length < base64CharsMin) return false;
  const start = text.startsWith("data:") ? text.indexOf(",", 5) + 1 : 0;
  if (start > 256) return false;
  return /^[A-Za-z0-9+/_-]*={0,2}$/.test(start === 0 ? text : text.slice(start));
}

const base64CharsMin = 1024;
/** Of a card or a telephone there are more. */
const longNumberDigits = 8;
/** So that a value without a text counts too. */
const valueChars = 2;
/** About a millisecond's work. */
const pieceChars = 8192;
