/** For `npx drizzle-kit generate --config gateway/drizzle.config.ts`: writes the next migration of `billing`. */
import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: "./gateway/ledger/schema.ts",
  schemaFilter: ["billing"],
  out: "./gateway/migrations",
});
