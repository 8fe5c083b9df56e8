/** How OTLP writes moments and attributes in JSON. */
import type { UsageVector } from "../../sdk/protocol/usage.ts";

/** 64 bits are text in OTLP's JSON. */
export function toNanos(ms: number): string {
  return `${BigInt(Math.round(ms * 1000)) * 1000n}`;
}

type Value = string | number | boolean | undefined;

/** What is unknown is left out. */
export function attributesOf(values: Readonly<Record<string, Value>>): object[] {
  return Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [] : [{ key, value: anyValue(value) }],
  );
}

function anyValue(value: Exclude<Value, undefined>): object {
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "string") return { stringValue: value };
  return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}

export function sumOf(
  usage: UsageVector | undefined,
  meters: readonly (keyof UsageVector)[],
): number | undefined {
  const known = meters.flatMap((meter) => usage?.[meter] ?? []);
  return known.length === 0 ? undefined : known.reduce((sum, count) => sum + count, 0);
}
