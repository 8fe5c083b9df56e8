CREATE TABLE "registry"."service_accounts" (
	"id" text PRIMARY KEY NOT NULL,
	"project_id" text NOT NULL,
	"name" text NOT NULL,
	"role" text DEFAULT 'member' NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "registry"."sessions" (
	"hash" text PRIMARY KEY NOT NULL,
	"previous_hash" text,
	"previous_until" timestamp (3) with time zone,
	"user_id" text NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"rotated_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "sessions_previous_hash_unique" UNIQUE("previous_hash")
);
--> statement-breakpoint
CREATE TABLE "registry"."users" (
	"id" text PRIMARY KEY NOT NULL,
	"issuer" text NOT NULL,
	"subject" text NOT NULL,
	"email" text,
	"name" text,
	"role" text NOT NULL,
	"role_kept" boolean DEFAULT false NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"last_login_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "owner_id" text;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "redacted" text;--> statement-breakpoint
ALTER TABLE "registry"."events" ADD COLUMN "address" text;--> statement-breakpoint
ALTER TABLE "registry"."projects" ADD COLUMN "archived_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "registry"."service_accounts" ADD CONSTRAINT "service_accounts_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "registry"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."sessions" ADD CONSTRAINT "sessions_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "registry"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "service_accounts_by_project" ON "registry"."service_accounts" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "sessions_by_user" ON "registry"."sessions" USING btree ("user_id");--> statement-breakpoint
CREATE UNIQUE INDEX "users_by_subject" ON "registry"."users" USING btree ("issuer","subject");--> statement-breakpoint
CREATE INDEX "api_keys_by_owner" ON "registry"."api_keys" USING btree ("owner_id");