/** Where kept answers lie. No project finds another's, and nothing grows beyond its bounds. */

export type ResponseCacheStore = {
  /** An answer that is not too old; it counts as used now. */
  get(projectId: string, key: string): Promise<Buffer | undefined>;
  /** The longest unused go when there are too many, or they are too large together. */
  put(projectId: string, key: string, answer: Buffer, ttlMs: number): Promise<void>;
  /** Forgets all of one project. @returns how many there were */
  purge(projectId: string): Promise<number>;
  /** What lies in this store; of one that several share, what all of them put there. */
  figures(): Promise<CacheFigures>;
  close(): void;
};

export type CacheFigures = { entries: number; bytes: number; evicted: number };

export type StoreBounds = {
  responseCacheEntriesMax: number;
  responseCacheBytesMax: number;
  responseCacheProjectEntriesMax: number;
  responseCacheProjectBytesMax: number;
};
