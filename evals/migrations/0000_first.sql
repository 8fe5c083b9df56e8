CREATE SCHEMA "evals";
--> statement-breakpoint
CREATE TABLE "evals"."answers" (
	"run_id" text NOT NULL,
	"position" integer NOT NULL,
	"row" integer NOT NULL,
	"reference" text NOT NULL,
	"answer" text,
	"correct" boolean,
	"error" text,
	"model" text,
	"adapter_digest" text,
	"cost_usd" numeric(38, 12),
	"input_tokens" integer,
	"output_tokens" integer,
	"latency_ms" double precision,
	CONSTRAINT "answers_run_id_position_row_pk" PRIMARY KEY("run_id","position","row")
);
--> statement-breakpoint
CREATE TABLE "evals"."candidates" (
	"run_id" text NOT NULL,
	"position" integer NOT NULL,
	"candidate" text NOT NULL,
	"kind" text NOT NULL,
	"model" text NOT NULL,
	"adapter_digest" text,
	"error" text,
	"measured_at" timestamp with time zone,
	CONSTRAINT "candidates_run_id_position_pk" PRIMARY KEY("run_id","position")
);
--> statement-breakpoint
CREATE TABLE "evals"."datasets" (
	"project_id" text NOT NULL,
	"sha256" text NOT NULL,
	"name" text NOT NULL,
	"rows" integer NOT NULL,
	"size_bytes" bigint NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	CONSTRAINT "datasets_project_id_sha256_pk" PRIMARY KEY("project_id","sha256")
);
--> statement-breakpoint
CREATE TABLE "evals"."runs" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"request" json NOT NULL,
	"status" text NOT NULL,
	"error" text,
	"rows" integer NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"finished_at" timestamp with time zone,
	"results" json
);
--> statement-breakpoint
ALTER TABLE "evals"."answers" ADD CONSTRAINT "answers_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "evals"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "evals"."candidates" ADD CONSTRAINT "candidates_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "evals"."runs"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "runs_by_project" ON "evals"."runs" USING btree ("project_id","id");