/** Rate limits that all gateways share: one Lua call takes from every bucket or from none. */
import { luaNow, type Redis, runScript, script } from "../metering/redis.ts";
import { roundingSlack, stateOf, waitMs } from "./bucket.ts";
import {
  type Check,
  checksOf,
  concurrentRetryMs,
  type LimitGrant,
  type LimitRequest,
  type LimitState,
  type RateLimiter,
  rateLimitExceeded,
  tightest,
} from "./types.ts";

export type RedisLimiterOptions = {
  redis: Redis;
  /** A request that never ends gives its place back after this long. */
  placeTtlMs: number;
  /** Only for tests; Redis's clock otherwise. */
  now?: () => number;
  prefix?: string;
};

/** The arithmetic is that of `bucket.ts`; one conformance suite holds the two together. */
export function createRedisLimiter({
  redis,
  placeTtlMs,
  now,
  prefix = "switchyard",
}: RedisLimiterOptions): RateLimiter {
  const time = (): string => (now === undefined ? "" : String(now()));

  async function acquire(request: LimitRequest): Promise<LimitGrant> {
    const checks = checksOf(request);
    if (checks.length === 0) return unlimited;
    const keys = checks.map((check) => keyOf(request.projectId, check));
    const [granted, ...answers] = await runScript(redis, acquireScript, keys, [
      time(),
      request.requestId,
      placeTtlMs,
      ...checks.flatMap(({ kind, rate, cost }) => [
        kind,
        rate.limit,
        cost,
        rate.burst,
        rate.windowMs,
      ]),
    ]);
    if (granted !== "granted") throw refusal(checks, answers);
    const statesOf = (kind: Check["kind"]): LimitState[] =>
      checks.flatMap((check, index) =>
        check.kind === kind ? [stateOf(Number(answers[index]), check.rate)] : [],
      );
    return {
      requests: tightest(statesOf("requests")),
      tokens: tightest(statesOf("tokens")),
      ...endingsOf(checks, keys, request.requestId),
    };
  }

  function endingsOf(
    checks: Check[],
    keys: string[],
    requestId: string,
  ): Pick<LimitGrant, "settle" | "cancel"> {
    let ended = false;
    const end = async (correction: (check: Check) => number): Promise<void> => {
      if (ended) return;
      ended = true;
      const changes = checks.flatMap((check, index) => {
        const by = check.kind === "concurrent" ? 0 : correction(check);
        return check.kind === "concurrent" || by !== 0
          ? [
              {
                key: keys[index] ?? "",
                args: [check.kind, check.rate.limit, by, check.rate.windowMs],
              },
            ]
          : [];
      });
      if (changes.length === 0) return;
      await runScript(
        redis,
        endScript,
        changes.map(({ key }) => key),
        [time(), requestId, ...changes.flatMap(({ args }) => args)],
      );
    };
    return {
      settle: (tokens) =>
        end(({ kind, cost }) => (kind === "tokens" && tokens !== undefined ? tokens - cost : 0)),
      cancel: () => end(({ cost }) => -cost),
    };
  }

  /** The braces keep a project's keys on one node of a cluster. */
  function keyOf(projectId: string, { scope, bucket }: Check): string {
    return `${prefix}:{${projectId}}:limit:${scope.type}:${scope.id}:${bucket}`;
  }

  return { acquire };
}

function refusal(checks: Check[], [index, used]: string[]) {
  const check = checks[Number(index) - 1];
  if (check === undefined) throw new Error(`the limiter's script answered ${index}`);
  const wait =
    check.kind === "concurrent" ? concurrentRetryMs : waitMs(Number(used), check.rate, check.cost);
  return rateLimitExceeded(check, Number(used), wait);
}

const unlimited: LimitGrant = {
  requests: undefined,
  tokens: undefined,
  async settle() {},
  async cancel() {},
};

/** A bucket lives in Redis until it would be empty; being read or refused does not prolong it. */
const luaBucket = `
  local function levelAt(key, limit, window, now)
    local bucket = redis.call('HMGET', key, 'level', 'at')
    if not bucket[1] then return 0 end
    local leaked = math.max(0, now - tonumber(bucket[2])) * limit / window
    return math.max(0, tonumber(bucket[1]) - leaked)
  end
  local function store(key, limit, window, level, now)
    if level <= 0 then redis.call('DEL', key) return end
    -- What has leaked once does not leak again when a clock that was set back catches up.
    local now = math.max(now, tonumber(redis.call('HGET', key, 'at') or now))
    redis.call('HSET', key, 'level', string.format('%.17g', level), 'at', string.format('%.17g', now))
    redis.call('PEXPIRE', key, math.ceil(level * window / limit) + 1000)
  end
`;

/** ARGV: now, request id, place's TTL; then kind, limit, cost, burst and window for each key. */
const acquireScript = script(`
  ${luaNow} ${luaBucket}
  local now = clock()
  local levels = {}
  for i, key in ipairs(KEYS) do
    local kind, limit, cost = ARGV[5 * i - 1], tonumber(ARGV[5 * i]), tonumber(ARGV[5 * i + 1])
    local burst, window = tonumber(ARGV[5 * i + 2]), tonumber(ARGV[5 * i + 3])
    if kind == 'concurrent' then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
      levels[i] = redis.call('ZCARD', key)
      if levels[i] + cost > limit then return {'refused', tostring(i), tostring(levels[i])} end
    else
      levels[i] = levelAt(key, limit, window, now)
      if levels[i] + cost > burst + ${roundingSlack} then
        return {'refused', tostring(i), string.format('%.17g', levels[i])}
      end
    end
  end
  local answer = {'granted'}
  for i, key in ipairs(KEYS) do
    local kind, limit, cost = ARGV[5 * i - 1], tonumber(ARGV[5 * i]), tonumber(ARGV[5 * i + 1])
    local level = levels[i] + cost
    if kind == 'concurrent' then
      redis.call('ZADD', key, now + tonumber(ARGV[3]), ARGV[2])
      redis.call('PEXPIRE', key, ARGV[3])
    else
      store(key, limit, tonumber(ARGV[5 * i + 3]), level, now)
    end
    answer[i + 1] = string.format('%.17g', level)
  end
  return answer
`);

/** ARGV: now, request id; then kind, limit, change and window for each key. */
const endScript = script(`
  ${luaNow} ${luaBucket}
  local now = clock()
  for i, key in ipairs(KEYS) do
    local kind, limit, by = ARGV[4 * i - 1], tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1])
    local window = tonumber(ARGV[4 * i + 2])
    if kind == 'concurrent' then
      redis.call('ZREM', key, ARGV[2])
    else
      store(key, limit, window, math.max(0, levelAt(key, limit, window, now) + by), now)
    end
  end
  return {}
`);
