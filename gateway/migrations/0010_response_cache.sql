ALTER TABLE "billing"."requests" ADD COLUMN "response_cache" text;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "saved_usage" jsonb;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "uncached_cost" numeric(38, 12);