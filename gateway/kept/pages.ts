/** Pages of kept things, as OpenAI's lists have them. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";

export type PageQuery = { limit: number; order: "asc" | "desc"; after?: string | undefined };
export type Page<T> = { data: T[]; hasMore: boolean };

/** @throws HubError what is wrong with the query */
export function readPageQuery(query: URLSearchParams, order: PageQuery["order"]): PageQuery {
  const read = parseOrThrow(pageQuery, Object.fromEntries(query));
  return { ...read, order: read.order ?? order };
}

/** A value given several times, as `include=a&include=b` or `include[]=a`. */
export function readList(query: URLSearchParams, name: string): string[] {
  return [...query.getAll(name), ...query.getAll(`${name}[]`)];
}

export function toList<T extends { id: string }>({ data, hasMore }: Page<T>): object {
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}

/** A page of what is all in memory, the oldest first. @throws HubError `not_found` for an unknown `after` */
export function pageOf<T extends { id: string }>(all: readonly T[], query: PageQuery): Page<T> {
  const { limit, order, after } = query;
  const ordered = order === "asc" ? [...all] : all.toReversed();
  const found = after === undefined ? -1 : ordered.findIndex(({ id }) => id === after);
  if (after !== undefined && found === -1) throw noSuchCursor(after);
  const data = ordered.slice(found + 1, found + 1 + limit);
  return { data, hasMore: found + 1 + limit < ordered.length };
}

export function noSuchCursor(after: string): HubError {
  return new HubError("not_found", `No item with id '${after.slice(0, 100)}' found.`, {
    param: "after",
  });
}

export const pageQuery = z.object({
  // The official clients' own tests ask for 0.
  limit: z.coerce.number().int().min(0).max(100).default(20),
  order: z.enum(["asc", "desc"]).optional(),
  after: z.string().optional(),
});
