CREATE TABLE "billing"."daily_spend" (
	"day" date NOT NULL,
	"project_id" text NOT NULL,
	"key_id" text NOT NULL,
	"cost" numeric(38, 12) NOT NULL,
	"requests" bigint NOT NULL,
	"unpriced" bigint NOT NULL,
	CONSTRAINT "daily_spend_project_id_key_id_day_pk" PRIMARY KEY("project_id","key_id","day")
);
--> statement-breakpoint
CREATE TABLE "billing"."entries" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "billing"."entries_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"request_id" text NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"project_id" text NOT NULL,
	"key_id" text NOT NULL,
	"model" text NOT NULL,
	"account" text NOT NULL,
	"amount" numeric(38, 12) NOT NULL,
	"meter" text,
	"quantity" bigint,
	"price_id" text
);
--> statement-breakpoint
CREATE TABLE "billing"."requests" (
	"request_id" text PRIMARY KEY NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"project_id" text NOT NULL,
	"key_id" text NOT NULL,
	"project_name" text NOT NULL,
	"key_name" text NOT NULL,
	"team" text,
	"cost_centre" text,
	"requested_model" text NOT NULL,
	"route" text,
	"task" text,
	"tags" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"model" text,
	"adapter" text,
	"adapter_version" integer,
	"adapter_digest" text,
	"upstream" text,
	"input" bigint,
	"cache_read" bigint,
	"cache_write" bigint,
	"output" bigint,
	"reasoning" bigint,
	"usage_estimated" boolean NOT NULL,
	"usage_inconsistent" boolean NOT NULL,
	"pricing" text NOT NULL,
	"cost" numeric(38, 12),
	"default_model" text,
	"baseline_cost" numeric(38, 12),
	"outcome" text NOT NULL,
	"http_status" integer NOT NULL,
	"error_code" text,
	"stream" boolean NOT NULL,
	"ttft_ms" double precision,
	"duration_ms" double precision NOT NULL,
	"decision" jsonb
);
--> statement-breakpoint
ALTER TABLE "billing"."entries" ADD CONSTRAINT "entries_request_id_requests_request_id_fk" FOREIGN KEY ("request_id") REFERENCES "billing"."requests"("request_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "entries_request" ON "billing"."entries" USING btree ("request_id");--> statement-breakpoint
CREATE INDEX "entries_at" ON "billing"."entries" USING btree ("at");--> statement-breakpoint
CREATE INDEX "entries_project_at" ON "billing"."entries" USING btree ("project_id","at");--> statement-breakpoint
CREATE INDEX "requests_at" ON "billing"."requests" USING btree ("at");--> statement-breakpoint
CREATE INDEX "requests_project_at" ON "billing"."requests" USING btree ("project_id","at");--> statement-breakpoint
CREATE INDEX "requests_project_id" ON "billing"."requests" USING btree ("project_id","request_id");