CREATE TABLE "gateway"."content_keys" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"day" date NOT NULL,
	"master_key_id" text NOT NULL,
	"wrapped" "bytea" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway"."request_contents" (
	"request_id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"end_user" text,
	"data_key_id" text NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"truncated" boolean NOT NULL,
	"sealed" "bytea" NOT NULL
);
--> statement-breakpoint
CREATE INDEX "content_keys_of_project" ON "gateway"."content_keys" USING btree ("project_id");--> statement-breakpoint
CREATE INDEX "content_keys_by_master" ON "gateway"."content_keys" USING btree ("master_key_id");--> statement-breakpoint
CREATE INDEX "content_keys_by_day" ON "gateway"."content_keys" USING btree ("day");--> statement-breakpoint
CREATE INDEX "request_contents_expires_at" ON "gateway"."request_contents" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "request_contents_of_user" ON "gateway"."request_contents" USING btree ("project_id","end_user");--> statement-breakpoint
CREATE INDEX "request_contents_of_key" ON "gateway"."request_contents" USING btree ("data_key_id");