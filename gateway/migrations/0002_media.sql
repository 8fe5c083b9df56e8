ALTER TABLE "billing"."requests" ADD COLUMN "input_audio" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "input_image" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "cache_read_audio" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "cache_read_image" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "output_audio" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "output_image" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "images" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "audio_ms" bigint;--> statement-breakpoint
ALTER TABLE "billing"."requests" ADD COLUMN "characters" bigint;