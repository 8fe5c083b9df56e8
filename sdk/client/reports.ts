/** What was spent: by model, adapter, project and whatever else finance groups by. */
import type { TokenMeter, UnitMeter } from "../protocol/usage.ts";
import type { Transport } from "./transport.ts";

export type CostsQuery = {
  /** A date, which is its midnight in UTC, or a timestamp; the server's default is the last 30 days. */
  from?: string | undefined;
  to?: string | undefined;
  groupBy?: readonly string[] | undefined;
};

/** Sums over a group. Amounts are decimal strings; tokens and units that no request reported are null. */
export type CostFigures = {
  requests: number;
  /** Of them, those whose cost is unknown; they are in no amount. */
  unpriced_requests: number;
  tokens: Record<TokenMeter, number | null>;
  /** Images, milliseconds of audio and characters, which some providers bill in place of tokens. */
  units: Record<UnitMeter, number | null>;
  cost_usd: string;
  /** What the routes' default models would have cost for the same tokens; an estimate. */
  saving?: {
    requests: number;
    cost_usd: string;
    default_model_cost_usd: string;
    saving_usd: string;
  };
  /** Of the requests, those that the response cache answered, and what it saved; an older server does not tell. */
  response_cache?: {
    hits: number;
    cost_usd: string;
    priced_hits: number;
    uncached_cost_usd: string;
    saving_usd: string;
  };
};

/** The figures of one group beside the names that it is grouped by. */
export type CostRow = CostFigures & Record<string, unknown>;

export type CostReport = {
  from: string;
  to: string;
  group_by: string[];
  data: CostRow[];
  totals: CostFigures;
};

export class Reports {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** All projects with an admin's key, one's own with a project's. */
  costs(query: CostsQuery = {}): Promise<CostReport> {
    return this.#transport.call("/api/reports/costs", { key: "admin", query: toQuery(query) });
  }

  /** The same as a CSV file, amounts with all their places. */
  async costsCsv(query: CostsQuery = {}): Promise<string> {
    const response = await this.#transport.send("/api/reports/costs", {
      key: "admin",
      query: { ...toQuery(query), format: "csv" },
    });
    return response.text();
  }
}

function toQuery({ from, to, groupBy }: CostsQuery) {
  return { from, to, group_by: groupBy?.join(",") };
}
