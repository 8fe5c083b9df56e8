CREATE SCHEMA IF NOT EXISTS "gateway";
--> statement-breakpoint
CREATE TABLE "gateway"."responses" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"previous_id" text,
	"response" jsonb NOT NULL,
	"input" jsonb NOT NULL
);
--> statement-breakpoint
CREATE INDEX "responses_expires_at" ON "gateway"."responses" USING btree ("expires_at");