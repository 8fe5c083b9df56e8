/**
 * What a connection remembers of its last response where that is stored nowhere (`store: false`), so that the next one on
 * it can go on from there. It is in this process's memory alone; whose response was forgotten is told that it was not
 * found, and sends the whole conversation.
 */
import { LRUCache } from "lru-cache";
import type { History } from "./store.ts";

export type Recollection = {
  /** All that was said up to a response; undefined for every other than the last. */
  history(id: string): History | undefined;
  remember(id: string, items: unknown[]): void;
  forget(): void;
};

/**
 * @param bytesMax of all connections together; the longest unused are forgotten
 * @param historyBytesMax of one conversation; a longer one is not remembered
 * @returns what gives each connection its own
 */
export function openRecollections({
  recollectionBytesMax: maxSize,
  historyBytesMax,
}: {
  recollectionBytesMax: number;
  historyBytesMax: number;
}): () => Recollection {
  const all = new LRUCache<symbol, History & { id: string }>({
    maxSize,
    maxEntrySize: Math.min(historyBytesMax, maxSize),
    sizeCalculation: ({ bytes }) => bytes,
  });
  return () => {
    const connection = Symbol();
    return {
      history(id) {
        const last = all.get(connection);
        return last?.id === id ? last : undefined;
      },
      remember(id, items) {
        all.set(connection, { id, items, bytes: Buffer.byteLength(JSON.stringify(items)) });
      },
      forget() {
        all.delete(connection);
      },
    };
  };
}

/** The request object is what counts, so no client can pretend to be on a connection that remembers. */
const recollections = new WeakMap<Request, Recollection>();

export function askOn(request: Request, recollection: Recollection): Request {
  recollections.set(request, recollection);
  return request;
}

/** Absent for what came in as a request of its own. */
export function recollectionOf(request: Request): Recollection | undefined {
  return recollections.get(request);
}
