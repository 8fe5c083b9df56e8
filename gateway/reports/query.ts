/** Reads query strings as clients of OpenAI write them: `a=1&a=2`, `a[]=1` and `a[0]=1` are one list. */
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";

/** Values by name, in the order they were given. */
export function readQuery(url: string): Record<string, string[]> {
  const query: Record<string, string[]> = {};
  for (const [key, value] of new URL(url).searchParams) {
    const name = key.replace(/\[\d*\]$/, "");
    if (!Object.hasOwn(query, name)) query[name] = [];
    query[name]?.push(value);
  }
  return query;
}

/** One value; the last of several, as most servers take it. */
export function single<S extends z.ZodType>(schema: S) {
  return z.preprocess((value) => (Array.isArray(value) ? value.at(-1) : value), schema);
}

/** All values, those of `a=1,2` too. */
export function list<S extends z.ZodType>(schema: S) {
  return z.preprocess(
    (value) => (Array.isArray(value) ? value.flatMap((item: string) => item.split(",")) : []),
    z.array(schema),
  );
}

export const wholeNumber = z.coerce.number().pipe(z.int());
export const truth = z.enum(["true", "false"]).transform((text) => text === "true");

/** `2026-11-01` (midnight UTC) or a full timestamp with its zone, as milliseconds. */
export const moment = z
  .string()
  .refine((text) => isoMoment.safeParse(text).success, {
    error: 'expected a date such as "2026-11-01" or a timestamp such as "2026-11-01T09:00:00Z"',
  })
  .transform((text) => Date.parse(text));

/** @throws HubError `invalid_value` for names that a report does not know, so that no filter is lost in silence */
export function refuseUnknown(query: Record<string, unknown>, known: readonly string[]): void {
  for (const name of Object.keys(query)) {
    if (known.includes(name)) continue;
    throw new HubError(
      "invalid_value",
      `Unknown query parameter: '${name.slice(0, 64)}'. Known are ${known.join(", ")}.`,
      { param: name },
    );
  }
}

const isoMoment = z.union([z.iso.date(), z.iso.datetime({ offset: true })]);
