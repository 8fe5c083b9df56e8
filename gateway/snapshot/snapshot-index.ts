/** The registry's snapshot with an index for each question that a request asks of it. */
import type {
  Adapter,
  ApiKey,
  Budget,
  Measurement,
  Model,
  Price,
  PriceTier,
  Project,
  Route,
  Snapshot,
  SpendAlert,
} from "../../sdk/protocol/catalog.ts";
import type { Meter } from "../../sdk/protocol/usage.ts";

/** Immutable; a new snapshot is a new index. Every look-up is one or two map reads. */
export class SnapshotIndex {
  readonly version: number;
  readonly models: readonly Model[];
  /** What bounds all projects together. */
  readonly organization: {
    budgets: readonly Budget[];
    spendAlerts?: readonly SpendAlert[] | undefined;
  };
  readonly projects: readonly Project[];
  readonly keys: readonly ApiKey[];
  readonly #projects: Map<string, Project>;
  readonly #keys: Map<string, ApiKey>;
  readonly #keysById: Map<string, ApiKey>;
  readonly #ownerNames: Map<string, string>;
  readonly #models: Map<string, Model>;
  readonly #ownAdapters: Map<string, Adapter>;
  readonly #sharedAdapters: Map<string, Adapter>;
  readonly #adapters: readonly Adapter[];
  readonly #routes: Map<string, Route>;
  readonly #prices: Map<string, { fromMs: number; price: Price }[]>;
  readonly #measurements: Map<string, Measurement[]>;

  constructor(snapshot: Snapshot) {
    this.version = snapshot.version;
    this.models = snapshot.models;
    this.projects = snapshot.projects;
    this.keys = snapshot.keys;
    this.organization = snapshot.organization ?? { budgets: [] };
    this.#adapters = snapshot.adapters;
    this.#projects = new Map(snapshot.projects.map((project) => [project.id, project]));
    this.#keys = new Map(
      snapshot.keys.flatMap((key): [string, ApiKey][] => [
        [key.hash, key],
        ...(key.previous ? [[key.previous.hash, key] as [string, ApiKey]] : []),
      ]),
    );
    this.#keysById = new Map(snapshot.keys.map((key) => [key.id, key]));
    this.#ownerNames = new Map(
      snapshot.keys.flatMap(({ ownerId, ownerName }) =>
        ownerId !== undefined && ownerName !== undefined ? [[ownerId, ownerName]] : [],
      ),
    );
    this.#models = new Map(snapshot.models.map((model) => [model.id, model]));
    this.#ownAdapters = new Map(
      snapshot.adapters.map((it) => [join(it.projectId, it.base, it.name), it]),
    );
    this.#sharedAdapters = oldestByName(snapshot.adapters.filter((adapter) => adapter.shared));
    this.#routes = new Map(snapshot.routes.map((it) => [join(it.projectId ?? "", it.name), it]));
    this.#prices = group(
      [...snapshot.prices]
        .sort(byEffect)
        .map((price) => ({ fromMs: Date.parse(price.validFrom), price })),
      ({ price: it }) => priceKey(it.model, it.meter, it.tier),
    );
    this.#measurements = group(
      [...snapshot.measurements].sort((a, b) => b.measuredAt.localeCompare(a.measuredAt)),
      measurementKey,
    );
  }

  /** By its text, or by the one that it had before; when that ends is the caller's to see. */
  keyByHash(hash: string): ApiKey | undefined {
    return this.#keys.get(hash);
  }

  /** How people know a person or a service account who owns a key. */
  ownerName(id: string): string | undefined {
    return this.#ownerNames.get(id);
  }

  keyById(id: string): ApiKey | undefined {
    return this.#keysById.get(id);
  }

  project(id: string): Project | undefined {
    return this.#projects.get(id);
  }

  model(id: string): Model | undefined {
    return this.#models.get(id);
  }

  /** The project's own adapter of that name, else the shared one; of several shared the oldest. */
  adapter(projectId: string, base: string, name: string): Adapter | undefined {
    return (
      this.#ownAdapters.get(join(projectId, base, name)) ??
      this.#sharedAdapters.get(join(base, name))
    );
  }

  /** Adapters that the project may use, under the names it reaches them by. */
  adaptersFor(projectId: string): Adapter[] {
    return this.#adapters.filter((it) => this.adapter(projectId, it.base, it.name) === it);
  }

  /** The project's own route of that name, else everybody's. */
  route(projectId: string, name: string): Route | undefined {
    return this.#routes.get(join(projectId, name)) ?? this.#routes.get(join("", name));
  }

  routesFor(projectId: string): Route[] {
    return [...this.#routes.values()].filter((it) => this.route(projectId, it.name) === it);
  }

  /** The price in effect at a moment: the latest `validFrom` that has come, its latest correction. */
  price(model: string, meter: Meter, atMs: number, tier?: PriceTier): Price | undefined {
    return this.#prices.get(priceKey(model, meter, tier))?.find(({ fromMs }) => fromMs <= atMs)
      ?.price;
  }

  /** Evidence for a task, newest first, of every project; the caller keeps what may be seen. */
  measurements(task: string, base: string, adapterDigest: string | undefined): Measurement[] {
    return this.#measurements.get(join(task, base, adapterDigest ?? "")) ?? [];
  }
}

/** A character that no name may contain keeps joined names apart. */
const join = (...parts: string[]): string => parts.join("\n");

/** Asked a dozen times a request, so without a list that is made to be joined. */
const priceKey = (model: string, meter: Meter, tier: PriceTier | undefined): string =>
  `${model}\n${meter}\n${tier ?? ""}`;

/** Evidence may name its model as `base` or `base:adapter@version`; the digest says which adapter. */
const measurementKey = (it: Measurement): string =>
  join(it.task, it.model.split(":", 1)[0] ?? it.model, it.adapterDigest ?? "");

const byEffect = (a: Price, b: Price): number =>
  Date.parse(b.validFrom) - Date.parse(a.validFrom) ||
  Date.parse(b.recordedAt) - Date.parse(a.recordedAt);

function oldestByName(adapters: readonly Adapter[]): Map<string, Adapter> {
  const newestFirst = [...adapters].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  return new Map(newestFirst.map((it) => [join(it.base, it.name), it]));
}

function group<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const members = groups.get(key);
    if (members) members.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
