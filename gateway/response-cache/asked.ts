/** Whether a request wants the response cache, and how: by its header, else by its project's setting. */
import type { ResponseCacheSetting } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";

export type CacheAsked = {
  ttlMs: number;
  /** Whether an answer that is kept may be given; else a new one is made and kept. */
  read: boolean;
  /** How old that may be; absent for as old as it is kept. */
  ageMsMax?: number;
  pace: "fast" | "recorded";
  /** Whether an answer may be repeated that chance had a part in. */
  sampled: boolean;
};

/**
 * By `x-switchyard-cache`: `ttl=SECONDS`, `no-cache` (a new answer, which is kept), `no-store` (nothing is read or kept), `pace=recorded` or
 * `pace=fast`, joined by commas. Who writes `ttl` wants the answer again, whatever its temperature.
 * By `cache-control`, as HTTP has it: `no-store`, `no-cache`, `max-age=SECONDS`; it asks for nothing by itself.
 * @returns nothing where nobody asked, or the request forbids it
 * @throws HubError `invalid_value`
 */
export function readCacheAsked(
  headers: Headers,
  setting: ResponseCacheSetting | undefined,
  { responseCacheTtlSecondsMax: ttlSecondsMax }: { responseCacheTtlSecondsMax: number },
): CacheAsked | undefined {
  const words = (headers.get(cacheHeader) ?? "")
    .split(",")
    .map((word) => word.trim().toLowerCase())
    .filter(Boolean);
  let ttlSeconds: number | undefined;
  let pace = setting?.pace;
  let read = true;
  for (const word of words) {
    const [name, value] = word.split("=", 2);
    if (name === "ttl" && /^[1-9]\d{0,8}$/.test(value ?? "")) ttlSeconds = Number(value);
    else if (name === "pace" && (value === "fast" || value === "recorded")) pace = value;
    else if (word === "no-cache") read = false;
    else if (word !== "no-store") throw unknownWord(word);
  }
  const seconds = ttlSeconds ?? setting?.ttlSeconds;
  const control = readCacheControl(headers);
  if (seconds === undefined || words.includes("no-store") || control.noStore) return undefined;
  return {
    ttlMs: Math.min(seconds, ttlSecondsMax) * 1000,
    read: read && !control.noCache,
    ...(control.ageMsMax !== undefined && { ageMsMax: control.ageMsMax }),
    pace: pace ?? "fast",
    sampled: ttlSeconds !== undefined || setting?.sampled === true,
  };
}

/** What is none of ours, HTTP's clients may say all the same. @see RFC 9111 §5.2.1 */
function readCacheControl(headers: Headers) {
  const words = (headers.get("cache-control") ?? "").toLowerCase().split(/[\s,]+/);
  const age = words.map((word) => /^max-age="?(\d{1,9})"?$/.exec(word)?.[1]).find(Boolean);
  return {
    noStore: words.includes("no-store"),
    noCache: words.includes("no-cache"),
    ageMsMax: age === undefined ? undefined : Number(age) * 1000,
  };
}

function unknownWord(word: string): HubError {
  return new HubError(
    "invalid_value",
    `Invalid '${cacheHeader}': expected ttl=SECONDS, no-cache, no-store, pace=fast or pace=recorded, joined by commas; got '${word.slice(0, 64)}'.`,
    { param: cacheHeader },
  );
}

/** On a request what is wanted, on its answer what was done. */
export const cacheHeader = "x-switchyard-cache";
