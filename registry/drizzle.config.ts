/** For `npx drizzle-kit generate --config registry/drizzle.config.ts`, after `schema.ts` has changed. */
import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: "./registry/schema.ts",
  out: "./registry/migrations",
  schemaFilter: ["registry"],
});
