/** OpenAI's envelope of a list, and the page that a query asks for. */
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";

export type List<T> = {
  object: "list";
  data: T[];
  has_more: boolean;
  first_id: string | null;
  last_id: string | null;
};

export type Page = { limit: number; after: string | undefined };

/** @throws HubError for a `limit` that is no number or too large */
export function readPage(query: Record<string, string>, pageSizeMax: number): Page {
  const schema = z.object({
    limit: z.coerce.number().int().min(1).max(pageSizeMax).default(Math.min(20, pageSizeMax)),
    after: z.string().max(256).optional(),
  });
  const { limit, after } = parseOrThrow(schema, query);
  return { limit, after };
}

/** @param found the page's items and, when there are more, at least one beyond them */
export function toList<T extends { id: string | number }>(
  found: readonly T[],
  page: Page,
): List<T> {
  const data = found.slice(0, page.limit);
  const idOf = (item: T | undefined) => (item === undefined ? null : String(item.id));
  return {
    object: "list",
    data,
    has_more: found.length > page.limit,
    first_id: idOf(data[0]),
    last_id: idOf(data.at(-1)),
  };
}
