ALTER TABLE "registry"."projects" ADD COLUMN "content_log" jsonb;--> statement-breakpoint
CREATE INDEX "events_of_policy" ON "registry"."events" USING btree ("id") WHERE type not like 'content.%';