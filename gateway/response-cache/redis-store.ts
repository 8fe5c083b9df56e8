/** Kept answers in Redis, where all gateways find them. Each operation is one script, by Redis's own clock. */
import { luaNow, type Redis, type RedisScript, script } from "../metering/redis.ts";
import type { CacheFigures, ResponseCacheStore, StoreBounds } from "./store.ts";

/**
 * Answers are strings with a time to live; what is beside them says how large each is and when it was last used. All
 * keys carry one hash tag, so that a cluster keeps them where one script reaches them.
 * @param prefix  keeps tests that share a Redis apart
 */
export class RedisStore implements ResponseCacheStore {
  readonly #redis: Redis;
  readonly #bounds: StoreBounds;
  readonly #prefix: string;

  constructor({ redis, bounds, prefix = "sy" }: RedisStoreOptions) {
    this.#redis = redis;
    this.#bounds = bounds;
    this.#prefix = `{${prefix}:answers}`;
  }

  async get(projectId: string, key: string): Promise<Buffer | undefined> {
    const found = await this.#run(get, ["", projectId, key]);
    return found instanceof Buffer ? found : undefined;
  }

  async put(projectId: string, key: string, answer: Buffer, ttlMs: number): Promise<void> {
    const bounds = this.#bounds;
    await this.#run(put, [
      "",
      projectId,
      key,
      answer,
      Math.ceil(ttlMs),
      bounds.responseCacheProjectEntriesMax,
      bounds.responseCacheProjectBytesMax,
      bounds.responseCacheEntriesMax,
      bounds.responseCacheBytesMax,
    ]);
  }

  async purge(projectId: string): Promise<number> {
    return Number(await this.#run(purge, ["", projectId]));
  }

  async figures(): Promise<CacheFigures> {
    const [entries, bytes, evicted] = (await this.#run(figures, [""])) as number[];
    return { entries: Number(entries), bytes: Number(bytes), evicted: Number(evicted) };
  }

  close(): void {
    this.#redis.disconnect();
  }

  /** As `runScript`, for values that are bytes. */
  async #run({ lua, sha1 }: RedisScript, args: (string | number | Buffer)[]): Promise<unknown> {
    try {
      return await this.#redis.callBuffer("EVALSHA", sha1, 1, this.#prefix, ...args);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return await this.#redis.callBuffer("EVAL", lua, 1, this.#prefix, ...args);
    }
  }
}

export type RedisStoreOptions = { redis: Redis; bounds: StoreBounds; prefix?: string | undefined };

/**
 * `used` and `used:<project>` order ids by their last use, `until` by their end; `size` has the bytes of each id,
 * `bytes` their sums by project, and under `*` of all.
 */
const shared = `
  ${luaNow}
  local prefix = KEYS[1]
  local function keyOf(id) return prefix .. ':a:' .. id end
  local function projectOf(id) return string.match(id, '^(.*)/[^/]*$') end
  local function ordered(project) return prefix .. ':used:' .. project end
  local function remove(id)
    local project = projectOf(id)
    local size = tonumber(redis.call('HGET', prefix .. ':size', id) or '0')
    redis.call('DEL', keyOf(id))
    redis.call('ZREM', prefix .. ':used', id)
    redis.call('ZREM', prefix .. ':until', id)
    redis.call('ZREM', ordered(project), id)
    redis.call('HDEL', prefix .. ':size', id)
    if size > 0 then
      redis.call('HINCRBY', prefix .. ':bytes', '*', -size)
      if redis.call('HINCRBY', prefix .. ':bytes', project, -size) <= 0 then
        redis.call('HDEL', prefix .. ':bytes', project)
      end
    end
  end
  local function bytesOf(name) return tonumber(redis.call('HGET', prefix .. ':bytes', name) or '0') end
  local function sweep(most)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. ':until', '-inf', clock(), 'LIMIT', 0, most)) do
      remove(id)
    end
  end
`;

const get = script(`
  ${shared}
  local id = ARGV[2] .. '/' .. ARGV[3]
  local answer = redis.call('GET', keyOf(id))
  if not answer then
    if redis.call('HEXISTS', prefix .. ':size', id) == 1 then remove(id) end
    return false
  end
  redis.call('ZADD', prefix .. ':used', 'XX', clock(), id)
  redis.call('ZADD', ordered(ARGV[2]), 'XX', clock(), id)
  return answer
`);

const put = script(`
  ${shared}
  local project = ARGV[2]
  local id = project .. '/' .. ARGV[3]
  local size = #ARGV[4]
  remove(id)
  sweep(100)
  redis.call('SET', keyOf(id), ARGV[4], 'PX', ARGV[5])
  redis.call('HSET', prefix .. ':size', id, size)
  redis.call('HINCRBY', prefix .. ':bytes', '*', size)
  redis.call('HINCRBY', prefix .. ':bytes', project, size)
  redis.call('ZADD', prefix .. ':used', clock(), id)
  redis.call('ZADD', ordered(project), clock(), id)
  redis.call('ZADD', prefix .. ':until', clock() + ARGV[5], id)
  local function shrink(order, name, entriesMax, bytesMax)
    while redis.call('ZCARD', order) > tonumber(entriesMax) or bytesOf(name) > tonumber(bytesMax) do
      local oldest = redis.call('ZRANGE', order, 0, 0)[1]
      if not oldest then return end
      remove(oldest)
      redis.call('INCR', prefix .. ':evicted')
    end
  end
  shrink(ordered(project), project, ARGV[6], ARGV[7])
  shrink(prefix .. ':used', '*', ARGV[8], ARGV[9])
  return 1
`);

const purge = script(`
  ${shared}
  sweep(1000)
  local ids = redis.call('ZRANGE', ordered(ARGV[2]), 0, -1)
  for _, id in ipairs(ids) do remove(id) end
  return #ids
`);

const figures = script(`
  ${shared}
  sweep(100)
  return {
    redis.call('ZCARD', prefix .. ':used'),
    bytesOf('*'),
    tonumber(redis.call('GET', prefix .. ':evicted') or '0')
  }
`);
