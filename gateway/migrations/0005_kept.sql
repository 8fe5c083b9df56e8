CREATE TABLE "gateway"."conversation_items" (
	"conversation_id" text NOT NULL,
	"position" bigint NOT NULL,
	"id" text NOT NULL,
	"item" json NOT NULL,
	"bytes" integer NOT NULL,
	CONSTRAINT "conversation_items_conversation_id_position_pk" PRIMARY KEY("conversation_id","position")
);
--> statement-breakpoint
CREATE TABLE "gateway"."conversations" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"metadata" jsonb NOT NULL,
	"next_position" bigint NOT NULL,
	"items" integer NOT NULL,
	"bytes" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway"."background_runs" (
	"response_id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"owner" text NOT NULL,
	"lease_until" timestamp with time zone NOT NULL,
	"running" boolean NOT NULL,
	"streamed" boolean NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway"."response_events" (
	"response_id" text NOT NULL,
	"first" integer NOT NULL,
	"last" integer NOT NULL,
	"frames" text NOT NULL,
	CONSTRAINT "response_events_response_id_first_pk" PRIMARY KEY("response_id","first")
);
--> statement-breakpoint
CREATE TABLE "gateway"."chat_completions" (
	"project_id" text NOT NULL,
	"id" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"requested_model" text NOT NULL,
	"answered_model" text NOT NULL,
	"metadata" jsonb NOT NULL,
	"completion" json NOT NULL,
	"messages" json NOT NULL,
	CONSTRAINT "chat_completions_project_id_id_pk" PRIMARY KEY("project_id","id")
);
--> statement-breakpoint
ALTER TABLE "gateway"."responses" ALTER COLUMN "response" SET DATA TYPE json;--> statement-breakpoint
ALTER TABLE "gateway"."responses" ALTER COLUMN "input" SET DATA TYPE json;--> statement-breakpoint
ALTER TABLE "gateway"."responses" ADD COLUMN "history_bytes" integer;--> statement-breakpoint
ALTER TABLE "gateway"."conversation_items" ADD CONSTRAINT "conversation_items_conversation" FOREIGN KEY ("conversation_id") REFERENCES "gateway"."conversations"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "gateway"."background_runs" ADD CONSTRAINT "background_runs_response" FOREIGN KEY ("response_id") REFERENCES "gateway"."responses"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "gateway"."response_events" ADD CONSTRAINT "response_events_response" FOREIGN KEY ("response_id") REFERENCES "gateway"."responses"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "conversation_items_id" ON "gateway"."conversation_items" USING btree ("conversation_id","id");--> statement-breakpoint
CREATE INDEX "conversations_expires_at" ON "gateway"."conversations" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "background_runs_running" ON "gateway"."background_runs" USING btree ("running","project_id");--> statement-breakpoint
CREATE INDEX "chat_completions_listed" ON "gateway"."chat_completions" USING btree ("project_id","created_at","id");--> statement-breakpoint
CREATE INDEX "chat_completions_expires_at" ON "gateway"."chat_completions" USING btree ("expires_at");