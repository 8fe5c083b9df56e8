/** Where the admin API lies, how its bodies are read, and how it says that something is gone. */
import type { AppParts } from "../app.ts";
import { readJson } from "../http/body.ts";
import type { Ctx } from "../http/request.ts";

export const root = "/v1/organization";
export const ofProject = `${root}/projects/:id`;

/** @throws HubError naming the field that is wrong */
export function read<S extends Parameters<typeof readJson>[1]>(
  context: Ctx,
  { limits }: AppParts,
  schema: S,
) {
  return readJson(context.req.raw, schema, limits.jsonBytesMax);
}

export function gone(object: string, id: string) {
  return { id, object: `${object}.deleted`, deleted: true };
}
