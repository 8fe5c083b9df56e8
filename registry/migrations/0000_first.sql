CREATE SCHEMA "registry";
--> statement-breakpoint
CREATE TABLE "registry"."adapter_versions" (
	"adapter_id" text NOT NULL,
	"version" integer NOT NULL,
	"digest" text NOT NULL,
	"config_sha256" text NOT NULL,
	"weights_sha256" text NOT NULL,
	"size_bytes" bigint NOT NULL,
	"rank" integer NOT NULL,
	"target_modules" jsonb NOT NULL,
	"base_digest" text NOT NULL,
	"lineage" jsonb NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "adapter_versions_adapter_id_version_pk" PRIMARY KEY("adapter_id","version")
);
--> statement-breakpoint
CREATE TABLE "registry"."adapters" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"base" text NOT NULL,
	"name" text NOT NULL,
	"shared" boolean NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "registry"."aliases" (
	"adapter_id" text NOT NULL,
	"alias" text NOT NULL,
	"version" integer NOT NULL,
	CONSTRAINT "aliases_adapter_id_alias_pk" PRIMARY KEY("adapter_id","alias")
);
--> statement-breakpoint
CREATE TABLE "registry"."api_keys" (
	"id" text PRIMARY KEY NOT NULL,
	"hash" text NOT NULL,
	"name" text NOT NULL,
	"role" text NOT NULL,
	"project_id" text,
	"limits" jsonb NOT NULL,
	"budget" jsonb,
	"created_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	CONSTRAINT "api_keys_hash_unique" UNIQUE("hash")
);
--> statement-breakpoint
CREATE TABLE "registry"."events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "registry"."events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp (3) with time zone NOT NULL,
	"actor" text NOT NULL,
	"type" text NOT NULL,
	"subject" text NOT NULL,
	"project_id" text,
	"detail" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "registry"."measurements" (
	"id" text PRIMARY KEY NOT NULL,
	"run_id" text NOT NULL,
	"project_id" text NOT NULL,
	"task" text NOT NULL,
	"dataset_digest" text NOT NULL,
	"scorer" text NOT NULL,
	"model" text NOT NULL,
	"adapter_digest" text,
	"n" integer NOT NULL,
	"score" double precision NOT NULL,
	"lower" double precision NOT NULL,
	"upper" double precision NOT NULL,
	"mean_cost_usd" numeric(38, 12),
	"mean_input_tokens" double precision NOT NULL,
	"mean_output_tokens" double precision NOT NULL,
	"latency_p50_ms" double precision NOT NULL,
	"latency_p95_ms" double precision NOT NULL,
	"measured_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "measurements_by_run" UNIQUE NULLS NOT DISTINCT("run_id","model","adapter_digest")
);
--> statement-breakpoint
CREATE TABLE "registry"."models" (
	"id" text PRIMARY KEY NOT NULL,
	"upstream" text NOT NULL,
	"upstream_model" text NOT NULL,
	"context_length" integer,
	"max_output_tokens" integer,
	"tokenizer" text,
	"owned_by" text NOT NULL,
	"base" jsonb,
	"created_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "registry"."prices" (
	"id" text PRIMARY KEY NOT NULL,
	"model" text NOT NULL,
	"meter" text NOT NULL,
	"usd_per_token" numeric(38, 12) NOT NULL,
	"valid_from" timestamp (3) with time zone NOT NULL,
	"recorded_at" timestamp (3) with time zone NOT NULL,
	"source" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "registry"."projects" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"team" text,
	"cost_centre" text,
	"limits" jsonb NOT NULL,
	"budget" jsonb,
	"unpriced" text NOT NULL,
	"archived" boolean DEFAULT false NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "projects_name_unique" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "registry"."routes" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"project_id" text,
	"default_model" text NOT NULL,
	"fallbacks" jsonb NOT NULL,
	"tasks" jsonb NOT NULL,
	CONSTRAINT "routes_by_name" UNIQUE NULLS NOT DISTINCT("name","project_id")
);
--> statement-breakpoint
ALTER TABLE "registry"."adapter_versions" ADD CONSTRAINT "adapter_versions_adapter_id_adapters_id_fk" FOREIGN KEY ("adapter_id") REFERENCES "registry"."adapters"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."adapters" ADD CONSTRAINT "adapters_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "registry"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."adapters" ADD CONSTRAINT "adapters_base_models_id_fk" FOREIGN KEY ("base") REFERENCES "registry"."models"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."aliases" ADD CONSTRAINT "aliases_version" FOREIGN KEY ("adapter_id","version") REFERENCES "registry"."adapter_versions"("adapter_id","version") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD CONSTRAINT "api_keys_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "registry"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."measurements" ADD CONSTRAINT "measurements_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "registry"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."routes" ADD CONSTRAINT "routes_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "registry"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "adapter_versions_by_content" ON "registry"."adapter_versions" USING btree ("adapter_id","digest");--> statement-breakpoint
CREATE INDEX "adapter_versions_by_digest" ON "registry"."adapter_versions" USING btree ("digest");--> statement-breakpoint
CREATE UNIQUE INDEX "adapters_by_name" ON "registry"."adapters" USING btree ("project_id","base","name");--> statement-breakpoint
CREATE INDEX "api_keys_by_project" ON "registry"."api_keys" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "events_by_subject" ON "registry"."events" USING btree ("subject","id");--> statement-breakpoint
CREATE INDEX "events_by_project" ON "registry"."events" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "measurements_by_adapter" ON "registry"."measurements" USING btree ("adapter_digest");--> statement-breakpoint
CREATE INDEX "measurements_by_task" ON "registry"."measurements" USING btree ("project_id","task","measured_at");--> statement-breakpoint
CREATE INDEX "prices_by_meter" ON "registry"."prices" USING btree ("model","meter","valid_from","recorded_at");