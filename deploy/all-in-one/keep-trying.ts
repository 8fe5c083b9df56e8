/** Tries what failed again until it succeeds, one try at a time. */
import { setTimeout as sleep } from "node:timers/promises";

export type KeepTryingOptions = {
  /** From the end of one try to the next. */
  everyMs: number;
  onFailure: (error: unknown) => void;
};

/** @returns a function that ends the trying, and resolves once no try is under way */
export function keepTrying(
  attempt: () => Promise<void>,
  { everyMs, onFailure }: KeepTryingOptions,
): () => Promise<void> {
  const stopped = new AbortController();
  const trying = (async () => {
    for (;;) {
      await sleep(everyMs, undefined, { signal: stopped.signal }).catch(() => {});
      if (stopped.signal.aborted) return;
      try {
        return await attempt();
      } catch (error) {
        onFailure(error);
      }
    }
  })();
  return async () => {
    stopped.abort();
    await trying;
  };
}
