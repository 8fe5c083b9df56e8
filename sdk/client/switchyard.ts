/** The client: OpenAI's own for inference, and Switchyard's nouns beside it. */
import OpenAI from "openai";
import type { Whoami } from "../protocol/admin.ts";
import { Adapters } from "./adapters.ts";
import { Batches } from "./batches.ts";
import { Budgets } from "./budgets.ts";
import { Datasets } from "./datasets.ts";
import { Evals } from "./evals.ts";
import { Files } from "./files.ts";
import { Guardrails } from "./guardrails.ts";
import { Keys } from "./keys.ts";
import { Models } from "./models.ts";
import { Prices } from "./prices.ts";
import { Projects } from "./projects.ts";
import { Reports } from "./reports.ts";
import { Requests } from "./requests.ts";
import { Routes } from "./routes.ts";
import { type KeyChoice, Transport, type TransportOptions } from "./transport.ts";

export type SwitchyardOptions = TransportOptions;

/** Every call throws `SwitchyardError`; calls of `openai` throw OpenAI's own errors. */
export class Switchyard {
  readonly projects: Projects;
  readonly keys: Keys;
  readonly models: Models;
  readonly adapters: Adapters;
  readonly datasets: Datasets;
  readonly files: Files;
  readonly batches: Batches;
  readonly evals: Evals;
  readonly guardrails: Guardrails;
  readonly routes: Routes;
  readonly prices: Prices;
  readonly budgets: Budgets;
  readonly reports: Reports;
  readonly requests: Requests;
  readonly #transport: Transport;
  readonly #options: SwitchyardOptions;
  #openai: OpenAI | undefined;

  constructor(options: SwitchyardOptions) {
    this.#options = options;
    this.#transport = new Transport(options);
    this.projects = new Projects(this.#transport);
    this.keys = new Keys(this.#transport);
    this.models = new Models(this.#transport);
    this.adapters = new Adapters(this.#transport);
    this.datasets = new Datasets(this.#transport);
    this.files = new Files(this.#transport);
    this.batches = new Batches(this.#transport, this.files);
    this.evals = new Evals(this.#transport);
    this.guardrails = new Guardrails(this.#transport);
    this.routes = new Routes(this.#transport);
    this.prices = new Prices(this.#transport);
    this.budgets = new Budgets(this.#transport);
    this.reports = new Reports(this.#transport);
    this.requests = new Requests(this.#transport);
  }

  /** The official client, pointed here with the project's key. */
  get openai(): OpenAI {
    const { apiKey, fetch } = this.#options;
    this.#openai ??= new OpenAI({
      baseURL: `${this.#transport.origin}/v1`,
      apiKey: apiKey ?? "",
      ...(fetch ? { fetch } : {}),
    });
    return this.#openai;
  }

  /** Whose key this is; the project's key if there is one and no other is asked for. */
  whoami(key: KeyChoice = "project"): Promise<Whoami> {
    return this.#transport.call("/api/whoami", { key });
  }
}
