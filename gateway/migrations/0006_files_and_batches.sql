CREATE TABLE "gateway"."file_chunks" (
	"owner_id" text NOT NULL,
	"position" integer NOT NULL,
	"bytes" "bytea" NOT NULL,
	CONSTRAINT "file_chunks_owner_id_position_pk" PRIMARY KEY("owner_id","position")
);
--> statement-breakpoint
CREATE TABLE "gateway"."files" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"purpose" text NOT NULL,
	"filename" text NOT NULL,
	"bytes" bigint NOT NULL,
	"sha256" text,
	"is_whole" boolean NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "gateway"."upload_parts" (
	"id" text PRIMARY KEY NOT NULL,
	"upload_id" text NOT NULL,
	"bytes" bigint NOT NULL,
	"is_whole" boolean NOT NULL,
	"created_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway"."uploads" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"purpose" text NOT NULL,
	"filename" text NOT NULL,
	"mime_type" text NOT NULL,
	"bytes" bigint NOT NULL,
	"status" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"file_expires_after" integer,
	"file_id" text
);
--> statement-breakpoint
CREATE TABLE "gateway"."batch_results" (
	"batch_id" text NOT NULL,
	"line" integer NOT NULL,
	"succeeded" boolean NOT NULL,
	"content" text NOT NULL,
	CONSTRAINT "batch_results_batch_id_line_pk" PRIMARY KEY("batch_id","line")
);
--> statement-breakpoint
CREATE TABLE "gateway"."batches" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"key_id" text NOT NULL,
	"endpoint" text NOT NULL,
	"completion_window" text NOT NULL,
	"input_file_id" text NOT NULL,
	"output_file_id" text,
	"error_file_id" text,
	"output_expires_after" integer,
	"status" text NOT NULL,
	"errors" text,
	"metadata" text,
	"tags" text,
	"task" text,
	"model" text,
	"total" integer DEFAULT 0 NOT NULL,
	"completed" integer DEFAULT 0 NOT NULL,
	"failed" integer DEFAULT 0 NOT NULL,
	"result_bytes" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"in_progress_at" timestamp with time zone,
	"finalizing_at" timestamp with time zone,
	"completed_at" timestamp with time zone,
	"failed_at" timestamp with time zone,
	"expired_at" timestamp with time zone,
	"cancelling_at" timestamp with time zone,
	"cancelled_at" timestamp with time zone,
	"lease_owner" text,
	"lease_until" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "batch_id" text;--> statement-breakpoint
CREATE INDEX "files_project" ON "gateway"."files" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "files_expires_at" ON "gateway"."files" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "upload_parts_upload" ON "gateway"."upload_parts" USING btree ("upload_id");--> statement-breakpoint
CREATE INDEX "uploads_project" ON "gateway"."uploads" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "batches_project" ON "gateway"."batches" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "batches_status" ON "gateway"."batches" USING btree ("status");--> statement-breakpoint
CREATE INDEX "batches_input_file" ON "gateway"."batches" USING btree ("input_file_id");