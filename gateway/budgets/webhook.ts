/** Posts alerts to the operator's address, one after another, until they are taken; after some time they are told and given up. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BudgetAlert } from "./alerts.ts";

export type WebhookOptions = {
  url: string;
  timeoutMs: number;
  /** For so long one is posted again, at longer and longer intervals. */
  retryForMs: number;
  /** Alerts that wait for those before them; further ones are not posted. */
  waitingMax: number;
  onError: (error: unknown) => void;
  /** Only for tests. */
  pause?: (ms: number) => Promise<unknown>;
};

export function createWebhook({
  url,
  timeoutMs,
  retryForMs,
  waitingMax,
  onError,
  pause = (ms) => sleep(ms, undefined, { ref: false }),
}: WebhookOptions) {
  let last: Promise<void> = Promise.resolve();
  let waiting = 0;

  async function post(alert: BudgetAlert): Promise<void> {
    let waitMs = firstWaitMs;
    for (let waitedMs = 0; ; waitedMs += waitMs, waitMs = Math.min(2 * waitMs, waitMsMax)) {
      let isRefused = false;
      try {
        const response = await fetch(url, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(alert),
          redirect: "error",
          signal: AbortSignal.timeout(timeoutMs),
        });
        await response.body?.cancel();
        if (response.ok) return;
        isRefused = isFinal(response.status);
        throw new Error(`the webhook for budget alerts answered ${response.status}`);
      } catch (error) {
        if (isRefused || waitedMs + waitMs > retryForMs) throw error;
        await pause(waitMs);
      }
    }
  }

  return (alert: BudgetAlert): void => {
    if (waiting >= waitingMax) {
      onError(new Error(`budget alert ${alert.id} was not posted: ${waiting} wait before it`));
      return;
    }
    waiting++;
    last = last
      .then(() => post(alert))
      .catch(onError)
      .finally(() => {
        waiting--;
      });
  };
}

/** Whoever refuses one for what it is would refuse it again, and others wait behind it. */
function isFinal(status: number): boolean {
  return status >= 400 && status < 500 && ![401, 403, 404, 408, 425, 429].includes(status);
}

const firstWaitMs = 500;
const waitMsMax = 60_000;
