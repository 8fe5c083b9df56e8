CREATE TABLE "registry"."invites" (
	"id" text PRIMARY KEY NOT NULL,
	"email" text NOT NULL,
	"role" text NOT NULL,
	"projects" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"accepted_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "registry"."project_members" (
	"project_id" text NOT NULL,
	"user_id" text NOT NULL,
	"role" text NOT NULL,
	"added_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "project_members_project_id_user_id_pk" PRIMARY KEY("project_id","user_id")
);
--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "suspended_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "last_used_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "cost_centre" text;--> statement-breakpoint
ALTER TABLE "registry"."api_keys" ADD COLUMN "tags" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."organizations" ADD COLUMN "spend_alerts" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."organizations" ADD COLUMN "own_keys" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."projects" ADD COLUMN "tags" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."projects" ADD COLUMN "spend_alerts" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."projects" ADD COLUMN "own_keys" jsonb;--> statement-breakpoint
ALTER TABLE "registry"."users" ADD COLUMN "invited" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "registry"."users" ADD COLUMN "disabled_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "registry"."project_members" ADD CONSTRAINT "project_members_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "registry"."projects"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registry"."project_members" ADD CONSTRAINT "project_members_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "registry"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "invites_by_email" ON "registry"."invites" USING btree ("email");--> statement-breakpoint
CREATE INDEX "project_members_by_user" ON "registry"."project_members" USING btree ("user_id");