/** OpenAI's envelope of a list, and the page that a query asks for, as the admin API has them. */
import { z } from "zod";

export function listOf<S extends z.ZodType>(item: S) {
  return z.looseObject({
    object: z.literal("list"),
    data: z.array(item),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  });
}

export const page = {
  limit: z.int().min(1).max(100).optional(),
  after: z.string().max(256).optional(),
};
