/** How people know whose a key is: an e-mail address, or the account's name. */
import { inArray } from "drizzle-orm";
import type { ServiceAccountId, UserId } from "../../sdk/protocol/ids.ts";
import type { Queryable } from "../db.ts";
import { serviceAccounts, users } from "../schema.ts";

/** @param ids absent for all there are */
export async function namesOfOwners(
  db: Queryable,
  ids?: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (ids?.length === 0) return new Map();
  const people = await db
    .select({ id: users.id, email: users.email, name: users.name })
    .from(users)
    .where(ids && inArray(users.id, ids as UserId[]));
  const accounts = await db
    .select({ id: serviceAccounts.id, name: serviceAccounts.name })
    .from(serviceAccounts)
    .where(ids && inArray(serviceAccounts.id, ids as ServiceAccountId[]));
  return new Map<string, string>([
    ...people.map(({ id, email, name }) => [id, email ?? name ?? id] as const),
    ...accounts.map(({ id, name }) => [id, name] as const),
  ]);
}
