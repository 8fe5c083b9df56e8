/** For `npx drizzle-kit generate --config gateway/drizzle.config.ts`: writes the next migration of `billing` and `gateway`. */
import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: [
    "./gateway/ledger/schema.ts",
    "./gateway/responses/schema.ts",
    "./gateway/idempotency/schema.ts",
    "./gateway/conversations/schema.ts",
    "./gateway/background/schema.ts",
    "./gateway/stored-completions/schema.ts",
    "./gateway/files/schema.ts",
    "./gateway/batches/schema.ts",
    "./gateway/content-log/schema.ts",
  ],
  schemaFilter: ["billing", "gateway"],
  out: "./gateway/migrations",
});
