/** What the product keeps its state in: PGlite and its own memory, or Postgres and Redis where they run. */
import { createPostgresDatabase } from "./database.ts";
import { findStores } from "./optional-parts.ts";

export type OpenStores = { env: Record<string, string>; close(): Promise<void> };

export type StoreKind = {
  /** For the test's name; says why when it is skipped. */
  name: string;
  skipped: boolean;
  /** An empty database; `env` makes the product use it. */
  open(): Promise<OpenStores>;
};

/** Both kinds, for `describe.each`; pass `skipped` on to `describe.skipIf`. */
export async function storeKinds(): Promise<StoreKind[]> {
  const found = await findStores();
  const missing = typeof found === "string";
  return [
    { name: "PGlite", skipped: false, open: async () => ({ env: {}, close: async () => {} }) },
    {
      name: missing ? `Postgres and Redis (skipped: ${found})` : "Postgres and Redis",
      skipped: missing,
      async open() {
        if (missing) throw new Error(found);
        const database = await createPostgresDatabase(found.postgres);
        return {
          env: { DATABASE_URL: database.url, REDIS_URL: found.redis },
          close: () => database.drop(),
        };
      },
    },
  ];
}
