/** Base models: those a client may use, and their declaration by an admin. */
import type { DeclareModel } from "../protocol/admin.ts";
import type { Model } from "../protocol/catalog.ts";
import type { ModelCard } from "../protocol/chat.ts";
import type { Transport } from "./transport.ts";

export class Models {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Everything that `model` may say in a request: bases, adapters and routes. */
  async list(): Promise<ModelCard[]> {
    const answer = await this.#transport.call<{ data: ModelCard[] }>("/v1/models", {
      key: "project",
    });
    return answer.data;
  }

  /** The base models as the registry has them, with their sizes. */
  declared(): Promise<Model[]> {
    return this.#transport.listAll("/api/models", { key: "admin" });
  }

  /** The same declaration again changes nothing. */
  declare(id: string, body: DeclareModel): Promise<Model> {
    const path = `/api/models/${encodeURIComponent(id)}`;
    return this.#transport.call(path, { method: "PUT", key: "admin", json: body });
  }
}
