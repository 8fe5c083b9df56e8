/** Routes: named policies that pick a model for each request. */
import type { DeclareRoute } from "../protocol/admin.ts";
import type { Route } from "../protocol/catalog.ts";
import type { ChatMessage } from "../protocol/chat.ts";
import type { Transport } from "./transport.ts";

export class Routes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(): Promise<Route[]> {
    return this.#transport.listAll("/api/routes", { key: "project" });
  }

  get(name: string): Promise<Route> {
    return this.#transport.call(routePath(name), { key: "project" });
  }

  put(name: string, body: DeclareRoute): Promise<Route> {
    return this.#transport.call(routePath(name), { method: "PUT", key: "admin", json: body });
  }

  /** The decision for a request that is not sent: what was considered, at what cost, and why. */
  explain(body: {
    model: string;
    messages: ChatMessage[];
    task?: string | undefined;
  }): Promise<RouteDecision> {
    return this.#transport.call("/api/routes/explain", {
      method: "POST",
      key: "project",
      json: body,
    });
  }
}

/** What the gateway weighed; newer servers may say more. */
export type RouteDecision = {
  requested: string;
  route?: string;
  task?: string;
  classifiedBy?: string;
  qualityFloor?: number;
  considered: {
    model: string;
    role: string;
    verdict: "planned" | "rejected";
    reason?: string;
    explanation: string;
    evidence?: { score: number; lower: number; upper: number; n: number };
    expectedCostUsd?: string;
  }[];
  /** Models in the order in which they are tried. */
  attempts: string[];
};

function routePath(name: string): string {
  return `/api/routes/${encodeURIComponent(name)}`;
}
