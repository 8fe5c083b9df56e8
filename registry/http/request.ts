/** What every route does with a request: its page, its names, and the change that it makes. */
import type { Context } from "hono";
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { ChangeLog } from "../change.ts";
import type { RegistryLimits } from "../config.ts";
import { actorOf, type Caller, requireStill } from "../identity.ts";
import { readPage } from "./list.ts";

/** `address` is the client's, as far as a gateway could tell. */
export type Env = { Variables: { caller: Caller; address: string | undefined } };
export type Ctx = Context<Env>;

/**
 * Changes the registry in the caller's name.
 * @throws HubError `requireStill`'s, for who may not any more: reading a body takes as long as its sender likes
 */
export function change<T>(
  context: Ctx,
  { changes }: { changes: ChangeLog },
  work: Parameters<typeof changes.change<T>>[1],
): Promise<T> {
  const { caller, address } = context.var;
  return changes.change({ actor: actorOf(caller), address }, async (it) => {
    await requireStill(it.tx, caller, context.req.raw);
    return work(it);
  });
}

export function pageOf(context: Ctx, { pageSizeMax }: RegistryLimits) {
  return readPage(context.req.query(), pageSizeMax);
}

export function parseName<S extends z.ZodType>(schema: S, text: string, param: string): z.infer<S> {
  return parseOrThrow(z.object({ [param]: schema }), { [param]: text })[param] as z.infer<S>;
}
