/** How long to wait before a call is made again. */
import type { HubError } from "../../sdk/protocol/errors.ts";

export type Backoff = {
  /** The most of the first wait; it doubles with each further one. */
  retryWaitMs: number;
  retryWaitMsMax: number;
};

/**
 * Full jitter, so that those who failed together do not come back together; after what the upstream itself asked for,
 * where it did.
 * @param retry 0 for the first
 * @returns `undefined` where the upstream asks for a longer wait than is made here
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function waitBeforeRetry(
  failure: HubError,
  retry: number,
  { backoff, random }: { backoff: Backoff; random: () => number },
): number | undefined {
  const { retryWaitMs, retryWaitMsMax } = backoff;
  const jitterMs = random() * Math.min(retryWaitMsMax, retryWaitMs * 2 ** retry);
  const askedMs = failure.retryAfterMs ?? 0;
  return askedMs > retryWaitMsMax ? undefined : askedMs + jitterMs;
}

/** Resolves after the time, or at once when the client leaves. */
export function waitFor(ms: number, client: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (client.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      client.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    client.addEventListener("abort", done, { once: true });
  });
}
