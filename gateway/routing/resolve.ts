/** From the name that a client wrote to the model, adapter version or route that it means for that client. */
import { z } from "zod";
import type { Adapter, AdapterVersion, Model, Route } from "../../sdk/protocol/catalog.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { defaultAlias, type ModelName, parseModelName } from "../../sdk/protocol/model-name.ts";
import { mayUse } from "../identity/key-scopes.ts";
import type { PricedModel, Principal } from "../metering/types.ts";
import type { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { nearMatches } from "./near-matches.ts";

/** One concrete thing that a request can be sent to. */
export type Target = {
  /** `base`, or `base:adapter@version`: an alias is already the version it stood for. */
  name: string;
  model: Model;
  adapter?: ServedAdapter;
  /** Shares of several adapters for this request, in place of one. */
  mix?: readonly MixedAdapter[];
};

export type ServedAdapter = {
  name: string;
  /** Whose it is; another project's when it is shared. */
  projectId: string;
  version: number;
  digest: string;
  baseDigest: string;
};

export type MixedAdapter = { digest: string; weight: number };

export type Resolved = { type: "target"; target: Target } | { type: "route"; route: Route };

/** Whose eyes look: a project sees all models, its own adapters, shared ones, and its routes. */
export type Scope = {
  snapshot: SnapshotIndex;
  projectId: string;
  /** What the key is for; all where it is not said. */
  models: readonly string[] | undefined;
};

export function scopeOf({ key, project }: Principal, snapshot: SnapshotIndex): Scope {
  return { snapshot, projectId: project.id, models: key.scopes?.models };
}

/**
 * A model wins over a route of the same name; `auto` is a route that may be missing.
 * @throws HubError `model_not_found`, in the same words whether a thing is absent or another project's
 */
export function resolve(name: string, scope: Scope): Resolved {
  if (!mayUse(name, scope.models)) throw notFound(name, scope);
  const target = findTarget(name, scope);
  if (target) return { type: "target", target };
  const route = scope.snapshot.route(scope.projectId, name);
  if (route) return { type: "route", route };
  throw notFound(name, scope);
}

/** The model or adapter version of that name, `undefined` when the project can reach none. */
export function findTarget(text: string, scope: Scope): Target | undefined {
  const name = tryParse(text);
  const model = name && scope.snapshot.model(name.base);
  if (!name || !model) return undefined;
  if (!name.adapter) return { name: model.id, model };
  const adapter = scope.snapshot.adapter(scope.projectId, name.base, name.adapter.name);
  const version = adapter && findVersion(adapter, name.adapter.ref ?? defaultAlias);
  if (!adapter || !version) return undefined;
  return {
    name: `${model.id}:${adapter.name}@${version.version}`,
    model,
    adapter: {
      name: adapter.name,
      projectId: adapter.projectId,
      version: version.version,
      digest: version.digest,
      baseDigest: version.baseDigest,
    },
  };
}

/**
 * Switchyard's own request field `adapters`: shares of several adapters over one base model. Each is
 * named as `adapter[@ref]`, `base:adapter[@ref]` or `sha256-…`, and found with the caller's eyes, because
 * the adapter-server behind us trusts any digest that we send.
 * @throws HubError `unsupported_parameter`, `model_not_found`, and what the schema finds
 */
export function resolveMix(field: unknown, target: Target, scope: Scope): readonly MixedAdapter[] {
  if (target.adapter || !target.model.base) {
    throw new HubError(
      "unsupported_parameter",
      `Unsupported parameter: 'adapters' mixes adapters over a base model that serves them; '${target.name}' is not one.`,
      { param: "adapters" },
    );
  }
  const base = target.model.id;
  return parseOrThrow(mixSchema, field, "adapters").map(({ model: name, weight }, index) => {
    const digest = /^sha256-([0-9a-f]{64})$/.exec(name)?.[1];
    const found =
      digest === undefined
        ? findTarget(name.includes(":") ? name : `${base}:${name}`, scope)?.adapter
        : findByDigest(digest, base, scope);
    if (!found) throw notFound(name, scope, `adapters[${index}].model`);
    return { digest: found.digest, weight };
  });
}

/** As the price book knows it. A mix is priced as its base. */
export function toPricedModel({ model, adapter }: Target): PricedModel {
  return { model: model.id, ...(adapter && { adapter: adapter.name }) };
}

/** Every name that the project may use. */
function usableNames({ snapshot, projectId, models }: Scope): string[] {
  const names = [
    ...snapshot.models.map((model) => model.id),
    ...snapshot.adaptersFor(projectId).map((adapter) => `${adapter.base}:${adapter.name}`),
    ...snapshot.routesFor(projectId).map((route) => route.name),
  ];
  return names.filter((name) => mayUse(name, models));
}

/** @throws never; builds the error with near matches that the caller may see */
export function notFound(name: string, scope: Scope, param = "model"): HubError {
  const near = nearMatches(name, [...usableNames(scope), ...refsOfNamedAdapter(name, scope)]);
  const advice =
    near.length > 0
      ? ` Did you mean ${near.map((it) => `\`${it}\``).join(" or ")}?`
      : " GET /v1/models lists what you may use.";
  return new HubError(
    "model_not_found",
    `The model \`${name.slice(0, 200)}\` does not exist or you do not have access to it.${advice}`,
    { param, details: { nearMatches: near } },
  );
}

function tryParse(text: string): ModelName | undefined {
  try {
    return parseModelName(text);
  } catch {
    return undefined;
  }
}

function findVersion(adapter: Adapter, ref: string): AdapterVersion | undefined {
  if (ref.startsWith("sha256-")) {
    return adapter.versions.find((it) => it.digest === ref.slice("sha256-".length));
  }
  const version = /^\d+$/.test(ref) ? Number(ref) : adapter.aliases[ref];
  return adapter.versions.find((it) => it.version === version);
}

function findByDigest(digest: string, base: string, { snapshot, projectId }: Scope) {
  return snapshot
    .adaptersFor(projectId)
    .filter((adapter) => adapter.base === base)
    .flatMap((adapter) => adapter.versions)
    .find((version) => version.digest === digest);
}

/** When the adapter exists and only its `@ref` is wrong, its aliases are what the caller looks for. */
function refsOfNamedAdapter(text: string, { snapshot, projectId }: Scope): string[] {
  const name = /^([^:@]+):([^:@]+)/.exec(text);
  const adapter = name?.[1] && name[2] && snapshot.adapter(projectId, name[1], name[2]);
  if (!adapter) return [];
  return Object.keys(adapter.aliases).map((alias) => `${adapter.base}:${adapter.name}@${alias}`);
}

const mixSchema = z
  .array(z.strictObject({ model: z.string().min(1).max(512), weight: z.number().min(-16).max(16) }))
  .min(1)
  .max(8);
