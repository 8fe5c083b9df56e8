/** The clients of the dialects benchmark, in a process of their own: each asks again as soon as its stream has ended. */
import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "undici";
import { deltaMark, deltasPerStream } from "../wire.ts";

export type Asked = {
  origin: string;
  path: string;
  headers: Record<string, string>;
  body: string;
};
export type LoadOrder = {
  asked: Asked;
  streams: number;
  seconds: number;
  /** Over how long the first requests are spread, so that streams do not run in step. */
  spreadMs: number;
};
export type LoadReport = {
  /** Streams that were read to their end, and how long all of it took. */
  ended: number;
  elapsedMs: number;
  firstDeltaMs: Float64Array;
  /** Between two deltas of a stream; those that come together have none. */
  gapsMs: Float64Array;
};

process.on("message", (order: LoadOrder) => {
  run(order).then(
    (report) => process.send?.({ report }),
    (error: Error) => process.send?.({ failed: error.message }),
  );
});

async function run({ asked, streams, seconds, spreadMs }: LoadOrder): Promise<LoadReport> {
  const pool = new Pool(asked.origin, { connections: streams, pipelining: 1 });
  const first: number[] = [];
  const gaps: number[] = [];
  let ended = 0;
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1000;
  const client = async (index: number) => {
    await sleep((spreadMs * index) / streams);
    while (performance.now() < endsAt) {
      await readStream(pool, asked, first, gaps);
      ended++;
    }
  };
  try {
    await Promise.all(Array.from({ length: streams }, (_, index) => client(index)));
  } finally {
    await pool.destroy();
  }
  return {
    ended,
    elapsedMs: performance.now() - startedAt,
    firstDeltaMs: Float64Array.from(first).sort(),
    gapsMs: Float64Array.from(gaps).sort(),
  };
}

/** @throws Error for any other status, and for a stream that does not have all deltas */
function readStream(
  pool: Pool,
  { path, headers, body }: Asked,
  first: number[],
  gaps: number[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const sentAt = performance.now();
    let lastAt = sentAt;
    let seen = 0;
    let status = 0;
    let refusal = "";
    let rest: Buffer = Buffer.alloc(0);
    pool.dispatch(
      { method: "POST", path, headers, body },
      {
        onRequestStart() {},
        onResponseStart(_controller, statusCode) {
          status = statusCode;
        },
        onResponseData(_controller, chunk) {
          if (status !== 200) {
            refusal += chunk.toString();
            return;
          }
          if (seen === deltasPerStream) return;
          const now = performance.now();
          const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
          let from = 0;
          for (
            let at = bytes.indexOf(deltaMark);
            at !== -1 && seen < deltasPerStream;
            at = bytes.indexOf(deltaMark, from)
          ) {
            from = at + deltaMark.length;
            if (seen++ === 0) first.push(now - sentAt);
            else gaps.push(now - lastAt);
            lastAt = now;
          }
          // A mark may be cut in two.
          rest = bytes.subarray(Math.max(from, bytes.length - deltaMark.length + 1));
        },
        onResponseEnd() {
          if (status === 200 && seen === deltasPerStream) resolve();
          else reject(new Error(`${path} answered ${status} with ${seen} deltas: ${refusal}`));
        },
        onResponseError(_controller, error) {
          reject(error);
        },
      },
    );
  });
}
