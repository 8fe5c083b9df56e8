/** Model names as clients write them: `base`, `base:adapter`, `base:adapter@version-or-alias`. */
import { z } from "zod";
import { HubError } from "./errors.ts";

/** Name of a base model or route: letters, digits, `.`, `_`, `-`, and `/` between parts. */
export const baseName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/,
    'expected a model name such as "org/model-1"',
  )
  .max(128);
/** Adapters are named in lower case and never used as a path; files are addressed by digest. */
export const adapterName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    "expected lower-case letters, digits, '.', '_' or '-', at most 63",
  );
export const aliasName = z
  .string()
  .regex(/^(?!sha256-)[a-z][a-z0-9_-]{0,31}$/, 'expected a lower-case word such as "champion"');

/** `ref` is a version number, an alias, or `sha256-…` of a version; absent means `@champion`. */
export type ModelName = { base: string; adapter?: { name: string; ref?: string } };

/** @throws HubError `invalid_value` when the text is no model name */
export function parseModelName(text: string): ModelName {
  const match = /^([^:@]+)(?::([^:@]+)(?:@([^:@]+))?)?$/.exec(text);
  const [, base, name, ref] = match ?? [];
  if (base === undefined || !baseName.safeParse(base).success) throw invalidName(text);
  if (name === undefined) return { base };
  if (!adapterName.safeParse(name).success) throw invalidName(text);
  if (ref === undefined) return { base, adapter: { name } };
  if (!adapterRef.test(ref)) throw invalidName(text);
  return { base, adapter: { name, ref } };
}

export function formatModelName(name: ModelName): string {
  if (!name.adapter) return name.base;
  return `${name.base}:${name.adapter.name}${name.adapter.ref === undefined ? "" : `@${name.adapter.ref}`}`;
}

/** The alias that serves when a name gives none. */
export const defaultAlias = "champion";

const adapterRef = /^([1-9]\d{0,8}|(?!sha256-)[a-z][a-z0-9_-]{0,31}|sha256-[0-9a-f]{64})$/;

function invalidName(text: string): HubError {
  return new HubError(
    "invalid_value",
    `'${text.slice(0, 200)}' is not a model name. Write "base", "base:adapter" or "base:adapter@version-or-alias".`,
    { param: "model" },
  );
}
