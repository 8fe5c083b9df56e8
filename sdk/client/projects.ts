/** Projects: who pays, and within which limits. */
import type { CreateProject, UpdateProject } from "../protocol/admin.ts";
import type { Project } from "../protocol/catalog.ts";
import type { Transport } from "./transport.ts";

export class Projects {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  create(body: CreateProject): Promise<Project> {
    return this.#transport.call("/api/projects", { method: "POST", key: "admin", json: body });
  }

  /** Forgets the answers that are kept of a project. @returns how many */
  async purgeCache(id: string): Promise<number> {
    const { purged } = await this.#transport.call<{ purged: number }>("/api/cache", {
      method: "DELETE",
      key: "admin",
      query: { project: id },
    });
    return purged;
  }

  list(): Promise<Project[]> {
    return this.#transport.listAll("/api/projects", { key: "admin" });
  }

  /** What is absent stays; `budget: null` removes the budget. */
  update(id: string, body: UpdateProject): Promise<Project> {
    const path = `/api/projects/${encodeURIComponent(id)}`;
    return this.#transport.call(path, { method: "PATCH", key: "admin", json: body });
  }
}
