/** Kept answers in this process. */
import type { CacheFigures, ResponseCacheStore, StoreBounds } from "./store.ts";

type Entry = { projectId: string; key: string; answer: Buffer; untilMs: number };

/** Maps keep the order in which they were filled, so the first entry of each is the one that is longest unused. */
class Shelf {
  readonly entries = new Map<string, Entry>();
  bytes = 0;

  add(id: string, entry: Entry): void {
    this.entries.set(id, entry);
    this.bytes += entry.answer.length;
  }

  remove(id: string): void {
    const entry = this.entries.get(id);
    if (!entry) return;
    this.entries.delete(id);
    this.bytes -= entry.answer.length;
  }

  /** The longest unused, while it holds more than it may. */
  surplus(entriesMax: number, bytesMax: number): Entry | undefined {
    if (this.entries.size <= entriesMax && this.bytes <= bytesMax) return undefined;
    return this.entries.values().next().value;
  }
}

export class MemoryStore implements ResponseCacheStore {
  readonly #bounds: StoreBounds;
  readonly #now: () => number;
  readonly #all = new Shelf();
  readonly #byProject = new Map<string, Shelf>();
  #evicted = 0;

  constructor({ bounds, now }: { bounds: StoreBounds; now: () => number }) {
    this.#bounds = bounds;
    this.#now = now;
  }

  async get(projectId: string, key: string): Promise<Buffer | undefined> {
    const entry = this.#all.entries.get(idOf({ projectId, key }));
    if (!entry) return undefined;
    this.#remove(entry);
    if (entry.untilMs <= this.#now()) return undefined;
    this.#add(entry);
    return entry.answer;
  }

  async put(projectId: string, key: string, answer: Buffer, ttlMs: number): Promise<void> {
    const bounds = this.#bounds;
    const entry = { projectId, key, answer, untilMs: this.#now() + ttlMs };
    this.#remove(entry);
    this.#add(entry);
    const own = () =>
      this.#byProject
        .get(projectId)
        ?.surplus(bounds.responseCacheProjectEntriesMax, bounds.responseCacheProjectBytesMax);
    const any = () =>
      this.#all.surplus(bounds.responseCacheEntriesMax, bounds.responseCacheBytesMax);
    for (let last = own() ?? any(); last; last = own() ?? any()) {
      this.#remove(last);
      this.#evicted++;
    }
  }

  async purge(projectId: string): Promise<number> {
    const own = [...(this.#byProject.get(projectId)?.entries.values() ?? [])];
    for (const entry of own) this.#remove(entry);
    return own.length;
  }

  async figures(): Promise<CacheFigures> {
    const { entries, bytes } = this.#all;
    return { entries: entries.size, bytes, evicted: this.#evicted };
  }

  close(): void {}

  #add(entry: Entry): void {
    const shelf = this.#byProject.get(entry.projectId) ?? new Shelf();
    this.#byProject.set(entry.projectId, shelf);
    shelf.add(entry.key, entry);
    this.#all.add(idOf(entry), entry);
  }

  #remove({ projectId, key }: Pick<Entry, "projectId" | "key">): void {
    const shelf = this.#byProject.get(projectId);
    shelf?.remove(key);
    if (shelf?.entries.size === 0) this.#byProject.delete(projectId);
    this.#all.remove(idOf({ projectId, key }));
  }
}

function idOf({ projectId, key }: Pick<Entry, "projectId" | "key">): string {
  return `${projectId}/${key}`;
}
