/** `GET /v1/models` and `/v1/models/:id`: what the asking key may use, in OpenAI's shape. */

import type { Adapter } from "../../../sdk/protocol/catalog.ts";
import type { ModelCard } from "../../../sdk/protocol/chat.ts";
import { defaultAlias } from "../../../sdk/protocol/model-name.ts";
import { mayUse } from "../../identity/key-scopes.ts";
import { findTarget, notFound, type Scope } from "../../routing/resolve.ts";

/** Models, adapters that have a champion, then routes, `auto` among them. */
export function listModels(scope: Scope): { object: "list"; data: ModelCard[] } {
  const { snapshot, projectId, models } = scope;
  return {
    object: "list",
    data: [
      ...snapshot.models.map(({ id, createdAt, ownedBy }) => ({
        id,
        object: "model" as const,
        created: seconds(createdAt),
        owned_by: ownedBy,
      })),
      ...snapshot
        .adaptersFor(projectId)
        .filter((adapter) => adapter.aliases[defaultAlias] !== undefined)
        .flatMap((adapter) => adapterCard(`${adapter.base}:${adapter.name}`, adapter, scope)),
      ...snapshot.routesFor(projectId).map((route) => ({
        id: route.name,
        object: "model" as const,
        created: 0,
        owned_by: "switchyard",
      })),
    ].filter(({ id }) => mayUse(id, models)),
  };
}

/**
 * @param id as a client writes a model, versions and aliases included
 * @throws HubError `model_not_found`
 */
export function retrieveModel(id: string, scope: Scope): ModelCard {
  const listed = listModels(scope).data.find((card) => card.id === id);
  if (listed) return listed;
  const [base = "", name = ""] = id.split(/[:@]/);
  const adapter = scope.snapshot.adapter(scope.projectId, base, name);
  const [card] = adapter && mayUse(id, scope.models) ? adapterCard(id, adapter, scope) : [];
  if (!card) throw notFound(id, scope);
  return card;
}

/** The lineage fields are vLLM's: `parent` is the base, `root` says which weights. */
function adapterCard(id: string, adapter: Adapter, scope: Scope): ModelCard[] {
  const target = findTarget(id, scope);
  if (!target?.adapter) return [];
  return [
    {
      id,
      object: "model",
      created: seconds(adapter.createdAt),
      owned_by: adapter.projectId === scope.projectId ? adapter.projectId : "shared",
      parent: adapter.base,
      root: `sha256-${target.adapter.digest}`,
    },
  ];
}

const seconds = (timestamp: string): number => Math.floor(Date.parse(timestamp) / 1000);
