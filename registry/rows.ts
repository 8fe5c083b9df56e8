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

export function toProject({ createdAt: _, ...row }: Row<typeof tables.projects>): Project {
  return withoutNulls(row);
}

export function toApiKey({ createdAt: _, ...row }: Row<typeof tables.apiKeys>): ApiKey {
  const { expiresAt, revokedAt, ...rest } = row;
  return withoutNulls({
    ...rest,
    expiresAt: expiresAt?.toISOString() ?? null,
    revokedAt: revokedAt?.toISOString() ?? null,
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
  return {
    ...row,
    usdPerToken: plainUsd(row.usdPerToken),
    validFrom: row.validFrom.toISOString(),
    recordedAt: row.recordedAt.toISOString(),
  };
}

export function toMeasurement(row: Row<typeof tables.measurements>): Measurement {
  return withoutNulls({
    ...row,
    meanCostUsd: row.meanCostUsd === null ? null : plainUsd(row.meanCostUsd),
    measuredAt: row.measuredAt.toISOString(),
  });
}

export function toEvent(row: Row<typeof tables.events>): RegistryEvent {
  return { ...row, at: row.at.toISOString() };
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
