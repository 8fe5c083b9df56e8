/** What metrics call adapters: few enough that no client can fill the memory of whoever collects them. */
export class AdapterLabels {
  readonly #max: number;
  readonly #nameOf: (digest: string) => string | undefined;
  readonly #known = new Set<string>();

  /** @param nameOf the name under which an adapter is loaded */
  constructor(max: number, nameOf: (digest: string) => string | undefined) {
    this.#max = max;
    this.#nameOf = nameOf;
  }

  /** The adapter's name, else what its digest begins with. */
  full(digest: string): string {
    return this.#nameOf(digest) ?? `sha256-${digest.slice(0, 12)}`;
  }

  /** The same for series that are kept, of which there are never more than `max` and one for all others. */
  bounded(digest: string): string {
    const label = this.full(digest);
    if (this.#known.has(label)) return label;
    if (this.#known.size >= this.#max) return otherAdapters;
    this.#known.add(label);
    return label;
  }
}

export const otherAdapters = "other";
