CREATE TABLE "billing"."budget_alerts" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "billing"."budget_alerts_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp with time zone NOT NULL,
	"counter" text NOT NULL,
	"scope" text NOT NULL,
	"scope_id" text NOT NULL,
	"project_id" text,
	"end_user" text,
	"model" text,
	"budget" jsonb NOT NULL,
	"share" double precision NOT NULL,
	"limit" numeric(38, 12) NOT NULL,
	"spent" numeric(38, 12) NOT NULL,
	"reset_at" timestamp with time zone
);
--> statement-breakpoint
CREATE UNIQUE INDEX "budget_alerts_once" ON "billing"."budget_alerts" USING btree ("counter","limit","share");--> statement-breakpoint
CREATE INDEX "budget_alerts_project" ON "billing"."budget_alerts" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "budget_alerts_at" ON "billing"."budget_alerts" USING btree ("at");