/** What a project lets be kept of its prompts and answers, and for how long. Without it nothing is. */
import { z } from "zod";
import { piiKinds } from "./guardrails.ts";

const contentParts = ["prompt", "answer"] as const;

/** Credentials are always taken out before anything is kept; what identifies people is, unless a kind is left out. */
export const contentLogSetting = z.strictObject({
  /** The part of the requests that is kept, drawn by chance. */
  share: z.number().gt(0).max(1).default(1),
  retentionDays: z.int().min(1).max(3650).default(30),
  parts: z
    .array(z.enum(contentParts))
    .min(1)
    .refine(isSet, "names a part twice")
    .default([...contentParts]),
  redact: z
    .array(z.enum(piiKinds))
    .refine(isSet, "names a kind twice")
    .default([...piiKinds]),
});
export type ContentLogSetting = z.infer<typeof contentLogSetting>;

/** `POST /api/events` of a gateway: what somebody did with contents and kept answers, which changes no policy. */
export const contentEvent = z.strictObject({
  type: z.enum(["content.read", "content.deleted", "response_cache.purged"]),
  /** The request, or the project of which all was deleted, or all of somebody's. */
  subject: z.string().min(1).max(256),
  projectId: z.string().regex(/^proj_/),
  actor: z.string().min(1).max(256),
  detail: z.record(z.string(), z.unknown()).default({}),
});
export type ContentEvent = z.input<typeof contentEvent>;

function isSet(values: readonly string[]): boolean {
  return new Set(values).size === values.length;
}
