CREATE TABLE "registry"."organizations" (
	"id" text PRIMARY KEY NOT NULL,
	"budgets" jsonb NOT NULL
);
--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "budgets" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."projects" ADD COLUMN "budgets" jsonb;