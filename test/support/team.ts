/** A team's applications: they ask through both official clients, and add up what they are told. */
import OpenAI7 from "openai";
import OpenAI6 from "openai-v6";
import { expect } from "vitest";
import type { RequestRecord } from "../../sdk/client/requests.ts";
import type { EvalAnswer } from "../../sdk/protocol/evals.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { call } from "./api.ts";

export type Client = typeof OpenAI7;
export const clients = [OpenAI7, OpenAI6 as unknown as Client] as const;

export type Asked = { content: string; model?: string; adapters?: unknown };

export class Team {
  /** All that was told of costs and tokens. */
  readonly told = { cost: 0n as PicoUsd, requests: 0, inputTokens: 0, outputTokens: 0 };
  readonly #url: string;
  readonly id: string;
  readonly key: string;

  constructor(url: string, { id, key }: { id: string; key: string }) {
    this.#url = url;
    this.id = id;
    this.key = key;
  }

  client(Client: Client): OpenAI7 {
    return new Client({ baseURL: `${this.#url}/v1`, apiKey: this.key, maxRetries: 0 });
  }

  async ask(Client: Client, { content, model = "auto", ...more }: Asked) {
    const { data, response } = await this.client(Client)
      .chat.completions.create({
        ...more,
        model,
        messages: [{ role: "user", content }],
        max_tokens: 64,
        temperature: 0,
      })
      .withResponse();
    const cost = parseUsd(response.headers.get("x-switchyard-cost-usd") ?? "not told");
    const { told } = this;
    told.cost += cost;
    told.requests++;
    told.inputTokens += data.usage?.prompt_tokens ?? Number.NaN;
    told.outputTokens += data.usage?.completion_tokens ?? Number.NaN;
    return {
      requestId: response.headers.get("x-request-id") ?? "",
      model: response.headers.get("x-switchyard-model") ?? "",
      digest: response.headers.get("x-switchyard-adapter"),
      text: data.choices[0]?.message.content ?? "",
      usage: data.usage,
      cost,
    };
  }

  /** Each row by each client; the models that answered. */
  async askBoth(rows: readonly { question: string }[]): Promise<Set<string>> {
    const models = new Set<string>();
    for (const { question } of rows) {
      for (const Client of clients)
        models.add((await this.ask(Client, { content: question })).model);
    }
    return models;
  }

  async request(id: string): Promise<RequestRecord> {
    const found = await call(this.#url, this.key, "GET", `/api/requests/${id}`);
    expect(found.status).toBe(200);
    return found.body as RequestRecord;
  }

  /** The answers of an eval run, which the team pays for: they are added to what it was told. */
  async evalAnswers(id: string): Promise<EvalAnswer[]> {
    const path = `/api/evals/runs/${id}/results?limit=1000`;
    const { data } = (await call(this.#url, this.key, "GET", path)).body as { data: EvalAnswer[] };
    for (const { costUsd, inputTokens, outputTokens } of data) {
      this.told.cost += parseUsd(costUsd ?? "not told");
      this.told.requests++;
      this.told.inputTokens += inputTokens ?? Number.NaN;
      this.told.outputTokens += outputTokens ?? Number.NaN;
    }
    return data;
  }
}
