/** A gateway for tests: the real app on a real port; the registry and the accounts stand in for theirs. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { pino } from "pino";
import type { GatewayLimits } from "../../gateway/config.ts";
import { createGateway, type Gateway, type GatewayParts } from "../../gateway/gateway.ts";
import { billReplay, billUsage } from "../../gateway/ledger/price-book.ts";
import type { Accounts, ReserveRequest, Settlement } from "../../gateway/metering/types.ts";
import type { UpstreamSettings } from "../../gateway/providers/settings.ts";
import type { Snapshot } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";

export type TestRegistry = Fetcher & {
  /** Replaces the snapshot; long polls that wait for it are answered. */
  publish(snapshot: Snapshot): void;
  /** What it answers to every request while it is set. */
  down: boolean;
  requests: Request[];
};

/** The two routes of the registry that a gateway uses, and an echo for what is forwarded. */
export function testRegistry(first: Snapshot, operatorKey: string): TestRegistry {
  let current = first;
  const waiting = new Set<() => void>();
  const registry: TestRegistry = {
    down: false,
    requests: [],
    publish(snapshot) {
      current = snapshot;
      for (const wake of waiting) wake();
    },
    async fetch(request) {
      if (registry.down) throw new TypeError("fetch failed");
      const url = new URL(request.url);
      if (url.pathname !== "/api/snapshot") {
        registry.requests.push(request);
        return Response.json({ path: url.pathname + url.search, body: await request.text() });
      }
      if (request.headers.get("authorization") !== `Bearer ${operatorKey}`) {
        return new Response(null, { status: 401 });
      }
      const after = url.searchParams.get("after");
      const isNew = () => after === null || current.version > Number(after);
      if (!isNew()) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(done, Number(url.searchParams.get("waitMs")));
          waiting.add(done);
          request.signal.addEventListener("abort", done);
          function done() {
            clearTimeout(timer);
            waiting.delete(done);
            resolve();
          }
        });
      }
      return isNew() ? Response.json(current) : new Response(null, { status: 304 });
    },
  };
  return registry;
}

export type TestAccounts = Accounts & {
  reserved: ReserveRequest[];
  /** Requests that were let in without a reservation, and have left. */
  admitted: number;
  settled: Settlement[];
  /** Reservations that were given back unused. */
  released: number;
  /** Resolves when that many requests are settled. */
  untilSettled(count: number): Promise<void>;
  /** Tokens that a request may reserve; more are refused as a token limit would. */
  tokensMax: number;
  /** Models that a budget has no room for. */
  overBudget: Set<string>;
};

/** Keeps the contract of `Accounts` in memory: settles once, prices by the policy's own price book. */
export function testAccounts(): { accounts: TestAccounts; create: GatewayParts["accounts"] } {
  let prices: Parameters<GatewayParts["accounts"]>[0]["prices"];
  const waiting: { count: number; wake: () => void }[] = [];
  const accounts: TestAccounts = {
    reserved: [],
    admitted: 0,
    settled: [],
    released: 0,
    tokensMax: Number.POSITIVE_INFINITY,
    overBudget: new Set(),
    untilSettled: (count) =>
      new Promise((resolve) => {
        if (accounts.settled.length >= count) resolve();
        else waiting.push({ count, wake: resolve });
      }),
    async admit() {
      return {
        headers: { "x-ratelimit-limit-requests": "60" },
        async leave() {
          accounts.admitted++;
        },
      };
    },
    async reserve(request) {
      const tokens = request.inputTokens + request.outputTokensMax;
      if (tokens > accounts.tokensMax) {
        throw new HubError("rate_limit_exceeded", "Rate limit reached on tokens per min (TPM).", {
          retryAfterMs: 1000,
          details: { kind: "tokens" },
        });
      }
      const dear = request.models.find(({ model }) => accounts.overBudget.has(model));
      if (dear) {
        throw new HubError("insufficient_quota", `The budget has no room for ${dear.model}.`);
      }
      accounts.reserved.push(request);
      let settled = false;
      return {
        headers: { "x-ratelimit-limit-requests": "60" },
        async settle(settlement) {
          if (settled) throw new Error("settled twice");
          settled = true;
          const { answered, usage, responseCache, startedAtMs } = settlement;
          const bill = responseCache
            ? answered && billReplay(responseCache.usage, answered, prices, startedAtMs)
            : answered && usage && billUsage(usage, answered, prices, startedAtMs);
          // A kill right after the answer must find the record: whoever sees the end finds it settled.
          await new Promise(setImmediate);
          accounts.settled.push(settlement);
          for (const { count, wake } of waiting) if (accounts.settled.length >= count) wake();
          return bill ? { cost: bill.cost } : {};
        },
        async release() {
          if (!settled) accounts.released++;
          settled = true;
        },
      };
    },
  };
  return {
    accounts,
    create(policy) {
      prices = policy.prices;
      return accounts;
    },
  };
}

export type TestGateway = {
  gateway: Gateway;
  /** Without a path. */
  url: string;
  registry: TestRegistry;
  accounts: TestAccounts;
  /** Lines of the log, parsed. */
  log: Record<string, unknown>[];
  close(): Promise<void>;
};

export type TestGatewayOptions = {
  snapshot: Snapshot;
  upstreams?: readonly UpstreamSettings[];
  limits?: Partial<GatewayLimits>;
  /** Told of every answer, with a copy of it. */
  answered?: (request: Request, response: Response) => void;
} & Partial<
  Pick<
    GatewayParts,
    | "embedded"
    | "kept"
    | "contents"
    | "evals"
    | "filing"
    | "reports"
    | "dashboard"
    | "idempotency"
    | "responseCache"
    | "dataDir"
    | "env"
    | "now"
    | "random"
  >
>;

export async function startTestGateway(options: TestGatewayOptions): Promise<TestGateway> {
  const operatorKey = "operator-key-of-the-tests";
  const registry = testRegistry(options.snapshot, operatorKey);
  const { accounts, create } = testAccounts();
  const log: Record<string, unknown>[] = [];
  const logger = pino(
    { level: "debug" },
    { write: (line) => void log.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const gateway = await createGateway({
    env: {},
    ...options,
    // A model that fails by design fails at once; a test of retries asks for them.
    limits: { retriesMax: 0, ...options.limits },
    upstreams: options.upstreams ?? [],
    registry,
    operatorKey,
    accounts: create,
    logger,
  });
  await gateway.start();
  const { answered } = options;
  const server = createServer(
    getRequestListener(async (request) => {
      const response = await gateway.app.fetch(request);
      answered?.(request, response.clone());
      return response;
    }),
  );
  server.on("upgrade", gateway.upgrade);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    gateway,
    url: `http://127.0.0.1:${port}`,
    registry,
    accounts,
    log,
    async close() {
      await gateway.stop();
      await closeServer(server);
    },
  };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
