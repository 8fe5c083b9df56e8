/** Opens the store of kept answers: Redis where gateways share one, else this process's memory. */
import { connectRedis } from "../metering/redis.ts";
import { MemoryStore } from "./memory-store.ts";
import { RedisStore } from "./redis-store.ts";
import type { ResponseCacheStore, StoreBounds } from "./store.ts";

/** @param timeoutMs  how long Redis may take before a request does without it */
export function openResponseCacheStore({
  redisUrl,
  timeoutMs,
  bounds,
  now,
}: {
  redisUrl: string | undefined;
  timeoutMs: number;
  bounds: StoreBounds;
  now: () => number;
}): ResponseCacheStore {
  if (redisUrl === undefined) return new MemoryStore({ bounds, now });
  const redis = connectRedis(redisUrl, { timeoutMs });
  // Each operation that fails is told where it is worked around.
  redis.on("error", () => {});
  void redis.connect().catch(() => {});
  return new RedisStore({ redis, bounds });
}
