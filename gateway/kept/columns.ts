/** What the tables of the schema `gateway` are made of, each folder's in its own `schema.ts`. */
import { bigint, customType, pgSchema, timestamp } from "drizzle-orm/pg-core";

export const gateway = pgSchema("gateway");
export const moment = (name: string) => timestamp(name, { withTimezone: true, mode: "string" });
/** More bytes than 32 bits count. */
export const size = (name: string) => bigint(name, { mode: "number" });
export const bytea = customType<{ data: Uint8Array }>({ dataType: () => "bytea" });
