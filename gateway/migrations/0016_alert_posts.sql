ALTER TABLE "billing"."budget_alerts" ADD COLUMN "post_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "billing"."budget_alerts" ADD COLUMN "post_attempts" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "billing"."budget_alerts" ADD COLUMN "posted_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "budget_alerts_to_post" ON "billing"."budget_alerts" USING btree ("id") WHERE post_at is not null;