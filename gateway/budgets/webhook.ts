/** Posts alerts to the operator's address, one after another; what cannot be delivered is told and given up. */
import { setTimeout as sleep } from "node:timers/promises";
import type { BudgetAlert } from "./alerts.ts";

export type WebhookOptions = {
  url: string;
  timeoutMs: number;
  /** Alerts that wait for those before them; further ones are not posted. */
  waitingMax: number;
  onError: (error: unknown) => void;
};

export function createWebhook({ url, timeoutMs, waitingMax, onError }: WebhookOptions) {
  let last: Promise<void> = Promise.resolve();
  let waiting = 0;

  async function post(alert: BudgetAlert): Promise<void> {
    for (let attempt = 1; ; attempt++) {
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
        throw new Error(`the webhook for budget alerts answered ${response.status}`);
      } catch (error) {
        if (attempt >= attemptsMax) throw error;
        await sleep(attempt * retryMs, undefined, { ref: false });
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

const attemptsMax = 3;
const retryMs = 500;
