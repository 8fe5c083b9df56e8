CREATE TABLE "registry"."used_login_codes" (
	"code" text PRIMARY KEY NOT NULL,
	"used_at" timestamp (3) with time zone NOT NULL
);
