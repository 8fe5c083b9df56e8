/** Until when an answer is of use, counted from when its request came: whatever it waits for on its way is part of that. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { deadlinePassed } from "../engine/waiting-room.ts";

export type Deadline = {
  /** Aborts when the client goes away or the time is over. */
  signal: AbortSignal;
  /** What the client hears of an error: that the time is over, where that is why its request was ended. */
  toldAs: (error: unknown) => unknown;
  /** The answer is complete, or failed. */
  end: () => void;
};

/** @param elapsedMs of the time that the request gave itself */
export function deadlineOf(
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs?: number | undefined },
  elapsedMs: number,
): Deadline {
  if (timeoutMs === undefined) return { signal, toldAs: (error) => error, end: () => {} };
  const passed = new AbortController();
  const leftMs = Math.min(timerMsMax, Math.max(0, timeoutMs - elapsedMs));
  const timer = setTimeout(() => passed.abort(), leftMs);
  return {
    signal: anySignal([signal, passed.signal]),
    toldAs: (error) =>
      passed.signal.aborted && isCancelled(error) ? deadlinePassed({ timeoutMs }) : error,
    end: () => clearTimeout(timer),
  };
}

export function isCancelled(error: unknown): boolean {
  return error instanceof HubError && error.code === "request_cancelled";
}

/** Node's timers hold no more. */
const timerMsMax = 2 ** 31 - 1;
