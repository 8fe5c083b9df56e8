/** Pins what a candidate stands for when a run begins, so that a moved alias cannot change the run. */
import type { Adapter, AdapterVersion } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { ProjectId, Sha256 } from "../../sdk/protocol/ids.ts";
import { defaultAlias, formatModelName, parseModelName } from "../../sdk/protocol/model-name.ts";

export type PinnedCandidate = {
  candidate: string;
  /** A `route` chooses its model for each request, so no one adapter can be proved for it. */
  kind: "base" | "adapter" | "route";
  /** The model to ask for, an adapter's alias replaced by its version. */
  model: string;
  /** The adapter whose weights have to answer; absent for a base and for a route. */
  adapterDigest?: Sha256;
};

export type Catalog = { modelIds: ReadonlySet<string>; adapters: readonly Adapter[] };

/**
 * @param catalog  what the caller's key may see
 * @throws HubError `model_not_found`, `invalid_value`
 */
export function pinCandidate(
  candidate: string,
  { catalog, projectId, param }: { catalog: Catalog; projectId: ProjectId; param: string },
): PinnedCandidate {
  const name = parseModelName(candidate);
  if (!name.adapter) {
    const kind = catalog.modelIds.has(name.base) ? "base" : "route";
    return { candidate, kind, model: candidate };
  }
  const { base, adapter: asked } = name;
  const named = catalog.adapters.filter((one) => one.base === base && one.name === asked.name);
  // A project's own adapter is meant before another project's shared one, as in the gateway.
  const adapter = named.find((one) => one.projectId === projectId) ?? named[0];
  if (!adapter) {
    throw new HubError(
      "model_not_found",
      `There is no adapter '${asked.name}' over '${base}'. List those you may use with GET /api/adapters.`,
      { param, details: { known: catalog.adapters.map((one) => `${one.base}:${one.name}`) } },
    );
  }
  const version = findVersion(adapter, asked.ref ?? defaultAlias);
  if (!version) {
    throw new HubError(
      "model_not_found",
      `The adapter '${base}:${adapter.name}' has no version or alias '${asked.ref ?? defaultAlias}'. ${describe(adapter)}`,
      { param },
    );
  }
  return {
    candidate,
    kind: "adapter",
    model: formatModelName({ base, adapter: { name: adapter.name, ref: String(version.version) } }),
    adapterDigest: version.digest,
  };
}

function findVersion(adapter: Adapter, ref: string): AdapterVersion | undefined {
  if (ref.startsWith("sha256-")) {
    return adapter.versions.find(({ digest }) => `sha256-${digest}` === ref);
  }
  const version = /^\d+$/.test(ref) ? Number(ref) : adapter.aliases[ref];
  return adapter.versions.find((one) => one.version === version);
}

function describe(adapter: Adapter): string {
  const versions = adapter.versions.map(({ version }) => version).join(", ");
  const aliases = Object.entries(adapter.aliases).map(
    ([alias, version]) => `${alias} -> ${version}`,
  );
  return `It has versions ${versions || "none"} and aliases ${aliases.join(", ") || "none"}.`;
}
