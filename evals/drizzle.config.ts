/** For `npx drizzle-kit generate --config evals/drizzle.config.ts`, after `schema.ts` has changed. */
import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: "./evals/schema.ts",
  out: "./evals/migrations",
  schemaFilter: ["evals"],
});
