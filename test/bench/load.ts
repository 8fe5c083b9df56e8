/** A load generator that keeps a fixed number of requests in flight and notes how long each took. */
import { Pool } from "undici";

export type LoadResult = { requestsPerSecond: number; latenciesMs: Float64Array };

export type Target = {
  origin: string;
  path: string;
  headers: Record<string, string>;
  body: string;
};

/**
 * Sends the same request over and over for a while and reads every answer to its end.
 * @returns sorted latencies, and answers per second over the whole time
 * @throws Error at the first answer that is not a 200
 */
export async function runLoad(
  target: Target,
  options: { concurrency: number; seconds: number },
): Promise<LoadResult> {
  const pool = new Pool(target.origin, { connections: options.concurrency, pipelining: 1 });
  const latencies: number[] = [];
  const startedAt = performance.now();
  const endsAt = startedAt + options.seconds * 1000;
  const worker = async () => {
    while (performance.now() < endsAt) {
      const sentAt = performance.now();
      const { statusCode, body } = await pool.request({
        method: "POST",
        path: target.path,
        headers: target.headers,
        body: target.body,
      });
      const text = await body.text();
      if (statusCode !== 200)
        throw new Error(`${target.origin} answered ${statusCode}: ${text.slice(0, 300)}`);
      latencies.push(performance.now() - sentAt);
    }
  };
  await Promise.all(Array.from({ length: options.concurrency }, worker));
  const elapsed = (performance.now() - startedAt) / 1000;
  await pool.close();
  return {
    requestsPerSecond: latencies.length / elapsed,
    latenciesMs: Float64Array.from(latencies).sort(),
  };
}
