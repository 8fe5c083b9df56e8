/** `x-ratelimit-*` as OpenAI sends them: whole numbers, and resets as Go prints durations. */
import type { LimitGrant, LimitState } from "./types.ts";

/** A kind that is not limited has no headers: any number would be an invention. */
export function rateLimitHeaders(
  grant: Partial<Pick<LimitGrant, "requests" | "tokens">>,
): Record<string, string> {
  return { ...headersOf("requests", grant.requests), ...headersOf("tokens", grant.tokens) };
}

/**
 * `12ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`: what `time.Duration.String` prints, to the millisecond.
 * @see https://pkg.go.dev/time#Duration.String
 */
export function formatGoDuration(ms: number): string {
  const whole = Math.ceil(Math.max(0, ms));
  if (whole === 0) return "0s";
  if (whole < 1000) return `${whole}ms`;
  const hours = Math.floor(whole / 3_600_000);
  const minutes = Math.floor((whole % 3_600_000) / 60_000);
  const seconds = `${(whole % 60_000) / 1000}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}

function headersOf(kind: string, state: LimitState | undefined): Record<string, string> {
  if (state === undefined) return {};
  return {
    [`x-ratelimit-limit-${kind}`]: String(state.limit),
    [`x-ratelimit-remaining-${kind}`]: String(state.remaining),
    [`x-ratelimit-reset-${kind}`]: formatGoDuration(state.resetMs),
  };
}
