ALTER TABLE "registry"."api_keys" ADD COLUMN "scopes" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "previous_hash" text;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "previous_until" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "retired_hashes" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD CONSTRAINT "api_keys_previous_hash_unique" UNIQUE("previous_hash");