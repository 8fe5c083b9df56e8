/** What stands in a request in place of what was taken out of it, and what it stands for. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Detector } from "./detectors/detector.ts";
import { findAll } from "./detectors/detector.ts";

/** The same text has the same placeholder throughout a request, so that a model can tell two people apart. */
export class Placeholders {
  readonly #taken: ReadonlySet<string>;
  readonly #byText = new Map<string, string>();
  readonly #texts = new Map<string, string>();
  readonly #counts = new Map<string, number>();

  /** @param texts of the request: what looks like a placeholder in them is none of ours */
  constructor(texts: Iterable<string>) {
    const taken = new Set<string>();
    for (const text of texts) for (const [found] of text.matchAll(placeholder)) taken.add(found);
    this.#taken = taken;
  }

  /** @param restore whether an answer may have the text back */
  of(text: string, kind: string, restore: boolean): string {
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    if (this.#byText.size >= placeholdersMax) {
      throw new HubError(
        "request_too_large",
        `More than ${placeholdersMax} different texts of this request would have to be taken out of it. Send less at once.`,
      );
    }
    let count = this.#counts.get(kind) ?? 0;
    let made: string;
    do made = `[${kind}_${++count}]`;
    while (this.#taken.has(made));
    this.#counts.set(kind, count);
    this.#byText.set(text, made);
    if (restore) this.#texts.set(made, text);
    return made;
  }

  textOf(made: string): string | undefined {
    return this.#texts.get(made);
  }

  get hasTexts(): boolean {
    return this.#texts.size > 0;
  }
}

const placeholdersMax = 10_000;

const placeholder = /\[[A-Z][A-Z_]{0,39}_\d{1,6}\]/g;

/** Finds what looks like a placeholder. */
export const placeholderDetector: Detector = {
  find: (text, from) => findAll(new RegExp(placeholder), text, { from, kind: "" }),
  openFrom(text, from) {
    const at = text.lastIndexOf("[");
    if (at < from || text.length - at > 50) return text.length;
    return /^\[(?:[A-Z][A-Z_]*\d*)?$/.test(text.slice(at)) ? at : text.length;
  },
};
