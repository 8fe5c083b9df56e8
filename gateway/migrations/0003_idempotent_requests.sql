CREATE TABLE "gateway"."idempotent_requests" (
	"project_id" text NOT NULL,
	"key_hash" text NOT NULL,
	"fingerprint" text NOT NULL,
	"owner" text NOT NULL,
	"request_id" text NOT NULL,
	"lease_until" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"status" integer,
	"headers" jsonb,
	"body" "bytea",
	CONSTRAINT "idempotent_requests_project_id_key_hash_pk" PRIMARY KEY("project_id","key_hash")
);
--> statement-breakpoint
CREATE INDEX "idempotent_requests_expires_at" ON "gateway"."idempotent_requests" USING btree ("expires_at");