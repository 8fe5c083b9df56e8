/** Prices: dollars for a token, effective from a date, never changed in place. */
import type { AddPrices } from "../protocol/admin.ts";
import type { Price } from "../protocol/catalog.ts";
import type { Transport } from "./transport.ts";

export class Prices {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(filter: { model?: string | undefined } = {}): Promise<Price[]> {
    return this.#transport.listAll("/api/prices", { key: "project", query: filter });
  }

  async add(prices: AddPrices["prices"]): Promise<void> {
    await this.#transport.send("/api/prices", { method: "POST", key: "admin", json: { prices } });
  }
}
