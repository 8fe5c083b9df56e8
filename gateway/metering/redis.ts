/** One connection to Redis for limits and budgets, and scripts that run there as one step. */
import { createHash } from "node:crypto";
import { Redis } from "ioredis";

export type { Redis };

/**
 * Fails at once while Redis is away, instead of queueing: local stores stand in. A command whose answer
 * was lost is not sent again, since it may have been carried out.
 */
export function connectRedis(url: string, options: { timeoutMs: number }): Redis {
  return new Redis(url, {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: options.timeoutMs * 4,
    commandTimeout: options.timeoutMs,
    retryStrategy: (attempt) => Math.min(100 * attempt, 2_000),
  });
}

export type RedisScript = { lua: string; sha1: string };

export function script(lua: string): RedisScript {
  return { lua, sha1: createHash("sha1").update(lua).digest("hex") };
}

/** Sends the script's hash, and its text when this Redis has not seen it yet. */
export async function runScript(
  redis: Redis,
  { lua, sha1 }: RedisScript,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<string[]> {
  try {
    return (await redis.evalsha(sha1, keys.length, ...keys, ...args)) as string[];
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
    return (await redis.eval(lua, keys.length, ...keys, ...args)) as string[];
  }
}

/**
 * Redis's own clock, so that gateways whose clocks differ share one limit; a test passes its own time as
 * the first argument.
 */
export const luaNow = `
  local function clock()
    if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
    local time = redis.call('TIME')
    return time[1] * 1000 + time[2] / 1000
  end
`;
