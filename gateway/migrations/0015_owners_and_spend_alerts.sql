ALTER TABLE "billing"."budget_alerts" ADD COLUMN "spend_alert" jsonb;--> statement-breakpoint
ALTER TABLE "billing"."entries" ADD COLUMN "owner_id" text;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "owner_id" text;--> statement-breakpoint
CREATE INDEX "requests_owner" ON "billing"."requests" USING btree ("owner_id","request_id") WHERE owner_id is not null;