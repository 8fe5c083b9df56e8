ALTER TABLE "registry"."users" ADD COLUMN "email_verified" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "registry"."users" ADD COLUMN "invited_role" text;--> statement-breakpoint
CREATE INDEX "events_by_actor" ON "registry"."events" USING btree ("actor","at");