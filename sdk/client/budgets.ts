/** Budgets: what is spent and held of each, and which shares of them were told. */
import type { Budget } from "../protocol/catalog.ts";
import type { Transport } from "./transport.ts";

/** Whose budget it is; `end_user` and `model` where each has its own. */
type BudgetOwner = {
  scope: "organization" | "project" | "key";
  scope_id: string;
  project_id: string | null;
  end_user: string | null;
  model: string | null;
  budget: Budget;
  spent_usd: string;
  limit_usd: string;
  reset_at: string | null;
};

export type BudgetStanding = BudgetOwner & { id: string; name: string; held_usd: string };

export type BudgetAlert = BudgetOwner & {
  id: number;
  at: string;
  share: number;
  posted_at: string | null;
};

export class Budgets {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** All with an admin's key, one's own project's with a project's. */
  list(): Promise<BudgetStanding[]> {
    return this.#transport.listAll("/api/budgets", { key: "admin" });
  }

  /** Told once a period and share, the newest first. */
  alerts(): Promise<BudgetAlert[]> {
    return this.#transport.listAll("/api/budgets/alerts", { key: "admin" });
  }
}
