/** Tries again what failed in a way that may pass, each time after a longer wait. */
import { LibraryError } from "../library/library-error.ts";
import { PassingFailure } from "./hub-connection.ts";

export type Waiting = {
  sleep: (ms: number) => Promise<void>;
  /** 0 to 1. */
  random: () => number;
  /** Told before each wait. */
  onRetry: (message: string) => void;
};

/** The clock's own, telling nobody. */
export const realWaiting: Waiting = {
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  random: Math.random,
  onRetry: () => {},
};

/**
 * @param attempt    what to try; it may leave part of the work done
 * @param hasGoneOn  whether the last try got further, so that the count of failures begins anew
 * @throws LibraryError `hub_failed` after too many failures in a row, or when told to wait too long
 */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  { sleep, random, onRetry }: Waiting,
  hasGoneOn: () => boolean = () => false,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof PassingFailure)) throw error;
      if (hasGoneOn()) failures = 1;
      if (failures >= failuresMax) {
        throw new LibraryError(
          "hub_failed",
          `${sentence(error.message)} ${failures} times in a row.`,
          {
            hint: "Try again later. What has arrived is kept, and the same command goes on from there.",
            cause: error,
          },
        );
      }
      const waitMs = error.waitMs ?? backoffMs(failures, random());
      if (waitMs > waitMsMax) {
        throw new LibraryError(
          "hub_failed",
          `${sentence(error.message)} and asks to wait ${Math.ceil(waitMs / 60_000)} minutes.`,
          {
            hint: "Run the same command after that: it goes on where it stopped. With HF_TOKEN the hub allows more.",
            cause: error,
          },
        );
      }
      onRetry(`${error.message}; trying again in ${(waitMs / 1000).toFixed(1)} s`);
      await sleep(waitMs);
    }
  }
}

/** Doubles from half a second, and a random part of it so that many clients do not come at once. */
function backoffMs(failures: number, random: number): number {
  return Math.min(30_000, 500 * 2 ** (failures - 1)) * (0.5 + random / 2);
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const failuresMax = 6;
const waitMsMax = 5 * 60_000;
