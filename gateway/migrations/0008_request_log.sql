ALTER TABLE "billing"."requests" ADD COLUMN "timings" jsonb;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "ingested_by" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ALTER COLUMN "ingested_by" SET DEFAULT pg_current_xact_id()::text::bigint;--> statement-breakpoint
CREATE INDEX "requests_key_id" ON "billing"."requests" USING btree ("key_id","request_id");--> statement-breakpoint
CREATE INDEX "requests_model" ON "billing"."requests" USING btree ("model","request_id");--> statement-breakpoint
CREATE INDEX "requests_task" ON "billing"."requests" USING btree ("task","request_id") WHERE task is not null;--> statement-breakpoint
CREATE INDEX "requests_end_user" ON "billing"."requests" USING btree ("end_user","request_id") WHERE end_user is not null;--> statement-breakpoint
CREATE INDEX "requests_failed" ON "billing"."requests" USING btree ("outcome","request_id") WHERE outcome <> 'ok';--> statement-breakpoint
CREATE INDEX "requests_ingested" ON "billing"."requests" USING btree ("ingested_by","request_id");