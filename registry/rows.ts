/** From rows to the shapes of sdk/protocol: missing is absent, not null; times are ISO texts. */
import type {
  AdapterVersion,
  ApiKey,
  Measurement,
  Model,
  Price,
  Project,
  RegistryEvent,
  Route,
} from "../sdk/protocol/catalog.ts";
import { formatUsd, parseUsd } from "../sdk/protocol/money.ts";
import type * as tables from "./schema.ts";

type Row<T extends { $inferSelect: unknown }> = T["$inferSelect"];

export function toProject(row: Row<typeof tables.projects>): Project {
  const { createdAt: _createdAt, archivedAt: _archivedAt, ...project } = row;
  return withoutNulls(project);
}

export function toApiKey(key: Row<typeof tables.apiKeys>): ApiKey {
  const { createdAt: _createdAt, redacted: _redacted, lastUsedAt: _used, ...row } = key;
  const { expiresAt, revokedAt, previousHash, previousUntil, retiredHashes: _, ...more } = row;
  const { suspendedAt, ...rest } = more;
  const previous =
    previousHash !== null && previousUntil !== null
      ? { hash: previousHash, until: previousUntil.toISOString() }
      : null;
  return withoutNulls({
    ...rest,
    previous,
    expiresAt: expiresAt?.toISOString() ?? null,
    revokedAt: revokedAt?.toISOString() ?? null,
    suspendedAt: suspendedAt?.toISOString() ?? null,
  });
}

export function toModel(row: Row<typeof tables.models>): Model {
  return withoutNulls({ ...row, createdAt: row.createdAt.toISOString() });
}

export function toVersion({
  adapterId: _,
  ...row
}: Row<typeof tables.adapterVersions>): AdapterVersion {
  return { ...row, createdAt: row.createdAt.toISOString() };
}

export function toRoute(row: Row<typeof tables.routes>): Route {
  return withoutNulls(row);
}

export function toPrice(row: Row<typeof tables.prices>): Price {
  return withoutNulls({
    ...row,
    usdPerToken: plainUsd(row.usdPerToken),
    validFrom: row.validFrom.toISOString(),
    recordedAt: row.recordedAt.toISOString(),
  });
}

export function toMeasurement(row: Row<typeof tables.measurements>): Measurement {
  return withoutNulls({
    ...row,
    meanCostUsd: row.meanCostUsd === null ? null : plainUsd(row.meanCostUsd),
    measuredAt: row.measuredAt.toISOString(),
  });
}

export function toEvent(row: Row<typeof tables.events>): RegistryEvent {
  return withoutNullAddress({ ...row, at: row.at.toISOString() });
}

function withoutNullAddress<E extends { address: string | null }>({ address, ...event }: E) {
  return { ...event, ...(address !== null && { address }) };
}

/** `NUMERIC` pads with zeros: "0.150000000000" is "0.15". */
function plainUsd(usd: string): string {
  return formatUsd(parseUsd(usd));
}

type WithoutNulls<T> = {
  [K in keyof T as null extends T[K] ? never : K]: T[K];
} & {
  [K in keyof T as null extends T[K] ? K : never]?: Exclude<T[K], null>;
};

function withoutNulls<T extends object>(row: T): WithoutNulls<T> {
  return Object.fromEntries(
    Object.entries(row).filter(([, value]) => value !== null),
  ) as WithoutNulls<T>;
}
