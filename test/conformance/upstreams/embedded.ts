/** The adapter-server with its real engine, on the demo's tiny model. It says what it says. */
import type { Fetcher } from "../../../sdk/protocol/http.ts";
import { baseId, openTestServer } from "../../support/adapter-server.ts";
import type { Upstream } from "../driver.ts";

/** @param operatorKey of the gateway, which presents it */
export async function startEmbedded(operatorKey: string): Promise<Upstream & { app: Fetcher }> {
  const server = await openTestServer({ operatorKey });
  return {
    name: "adapter-server",
    app: { fetch: async (request) => server.app.fetch(request) },
    model: () => baseId,
    prepare() {},
    seen: () => undefined,
    scripted: false,
    tells: { cacheRead: true, cacheWrite: false, reasoning: false, logprobs: true },
    seals: false,
    refuses: false,
    filters: false,
    stopped: false,
    close: () => server.close(),
  };
}
