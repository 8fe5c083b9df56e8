/** The clients of the gateway benchmark, in a process of their own, over bare sockets. */
import { type Asked, RawConnection, writeRequest } from "../raw-http.ts";

export type LoadOrder = {
  type: "load";
  asked: Asked;
  /** Each request has one of these, drawn at random; or each of them once, one after the other. */
  keys?: { values: readonly string[]; take: "drawn" | "once" };
  concurrency: number;
  /** It ends with whichever comes first. */
  seconds: number;
  requests?: number;
};
export type LoadReport = {
  answered: number;
  elapsedMs: number;
  /** Sorted. */
  latenciesMs: Float64Array;
};

/** Clients that ask for a stream all at once, and all leave: some before its first byte, some in the middle. */
export type StormOrder = { type: "storm"; asked: Asked; clients: number };
export type StormReport = { left: number; begun: number };

export type Order = LoadOrder | StormOrder;
export type Report = LoadReport | StormReport;

process.on("message", (order: Order) => {
  const done = order.type === "load" ? load(order) : storm(order);
  done.then(
    (report) => process.send?.({ report }),
    (error: Error) => process.send?.({ failed: error.message }),
  );
});

function load({ asked, keys, concurrency, seconds, requests }: LoadOrder): Promise<LoadReport> {
  const plain = writeRequest(asked);
  const count = keys?.take === "once" ? keys.values.length : requests;
  const next = (): string => {
    if (!keys) return plain;
    const index = keys.take === "once" ? sent : Math.floor(Math.random() * keys.values.length);
    return writeRequest(asked, `Bearer ${keys.values[index]}`);
  };
  const latencies: number[] = [];
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1000;
  let sent = 0;
  let busy = concurrency;
  return new Promise((resolve, reject) => {
    const connections: RawConnection[] = [];
    const end = () => {
      for (const connection of connections) connection.close();
    };
    const fail = (error: Error) => {
      end();
      reject(new Error(`${asked.origin}${asked.path}: ${error.message}`));
    };
    const client = () => {
      let sentAt = 0;
      const askOrEnd = () => {
        sentAt = performance.now();
        if (sentAt >= endsAt || (count !== undefined && sent >= count)) {
          if (--busy > 0) return;
          end();
          const elapsedMs = performance.now() - startedAt;
          const latenciesMs = Float64Array.from(latencies).sort();
          resolve({ answered: latencies.length, elapsedMs, latenciesMs });
          return;
        }
        const request = next();
        sent++;
        connection.send(request);
      };
      const connection = new RawConnection(asked.origin, {
        failed: fail,
        answered({ status, text }) {
          latencies.push(performance.now() - sentAt);
          if (status === 200) askOrEnd();
          else fail(new Error(`answered ${status}: ${text().slice(0, 600)}`));
        },
      });
      connections.push(connection);
      askOrEnd();
    };
    for (let index = 0; index < concurrency; index++) client();
  });
}

/** All have sent their request before the first leaves; every second one waits for its first bytes. */
async function storm({ asked, clients }: StormOrder): Promise<StormReport> {
  const request = writeRequest(asked);
  let begun = 0;
  const waiting = Array.from({ length: clients }, (_, index) => {
    return new Promise<RawConnection>((resolve, reject) => {
      const ready = () => resolve(connection);
      const connection = new RawConnection(asked.origin, {
        failed: reject,
        answered: ({ status, text }) =>
          reject(new Error(`answered ${status}: ${text().slice(0, 600)}`)),
        part() {
          begun++;
          ready();
        },
      });
      connection.send(request);
      if (index % 2 === 1) setTimeout(ready, 1);
    });
  });
  const connections = await Promise.all(waiting);
  for (const connection of connections) connection.close();
  return { left: connections.length, begun: Math.min(begun, clients) };
}
