/** Headers of Anthropic's API: which travel on with a request, and which its clients look for in an answer. */
import { HubError } from "../../../sdk/protocol/errors.ts";

/**
 * Versions of the wire format. The newer one takes no sampling parameters and is stricter about what stands where;
 * answers are the same.
 * @see https://platform.claude.com/docs/en/api/versioning
 */
const versions: readonly string[] = ["2023-06-01", "2026-10-21"];

/**
 * What of the client's headers a provider of the same format gets. Anthropic demands `anthropic-version`; here a
 * request without one is of the version that refuses least.
 * @throws HubError `invalid_value` for a version that is not spoken here
 */
export function travellingHeaders({ headers }: Request): Record<string, string> {
  const version = headers.get("anthropic-version") ?? "2023-06-01";
  if (!versions.includes(version)) {
    throw new HubError(
      "invalid_value",
      `Invalid 'anthropic-version': '${version.slice(0, 40)}' is not spoken here; send one of ${versions.join(", ")}.`,
      { param: "anthropic-version" },
    );
  }
  const beta = headers.get("anthropic-beta");
  return { "anthropic-version": version, ...(beta !== null && { "anthropic-beta": beta }) };
}

/** Adds to an answer the names under which Anthropic's clients look for what our headers say. */
export function addAnthropicHeaders(headers: Headers, nowMs: number): void {
  const requestId = headers.get("x-request-id");
  if (requestId !== null) headers.set("request-id", requestId);
  for (const kind of ["requests", "tokens"]) {
    for (const what of ["limit", "remaining"]) {
      const value = headers.get(`x-ratelimit-${what}-${kind}`);
      if (value !== null) headers.set(`anthropic-ratelimit-${kind}-${what}`, value);
    }
    const resetMs = parseGoDuration(headers.get(`x-ratelimit-reset-${kind}`) ?? "");
    if (resetMs === undefined) continue;
    const reset = new Date(nowMs + resetMs).toISOString();
    headers.set(`anthropic-ratelimit-${kind}-reset`, reset);
  }
  const exposed = headers.get("access-control-expose-headers");
  if (exposed !== null) headers.set("access-control-expose-headers", `${exposed}, ${exposedToo}`);
}

/** `6m0s` and the like, as `x-ratelimit-reset-*` has it. */
function parseGoDuration(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:h|ms|m|s))+$/.test(text)) return undefined;
  const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
  return [...text.matchAll(/([\d.]+)(h|ms|m|s)/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ""] ?? 0),
    0,
  );
}

const exposedToo = [
  "request-id",
  ...["requests", "tokens"].flatMap((kind) =>
    ["limit", "remaining", "reset"].map((what) => `anthropic-ratelimit-${kind}-${what}`),
  ),
].join(", ");
