/** What is written down while one request is translated: what had no place, and how many cache marks are left. */
import type { CacheHint } from "../../canonical/request.ts";

export class Notes {
  readonly #dropped = new Set<string>();
  #cacheMarks = 0;

  get dropped(): string[] {
    return [...this.#dropped];
  }

  drop(name: string): void {
    this.#dropped.add(name);
  }

  /** The field that marks a block, of which a request may have four. */
  cacheControl({ cache }: { cache?: CacheHint }): { cache_control?: object } {
    if (!cache) return {};
    if (++this.#cacheMarks > cacheMarksMax) {
      this.drop("cache_control");
      return {};
    }
    return { cache_control: { type: "ephemeral", ...cache } };
  }
}

const cacheMarksMax = 4;
