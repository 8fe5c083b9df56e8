/** Branded ids: a prefix that says what a thing is, and 26 characters that sort by time of creation. */
import { z } from "zod";

const body = "[0-9a-hjkmnp-tv-z]{26}";
const id = <Brand extends string>(prefix: string) =>
  z
    .string()
    .regex(new RegExp(`^${prefix}_${body}$`), `expected an id like ${prefix}_…`)
    .brand<Brand>();

export const projectId = id<"ProjectId">("proj");
export type ProjectId = z.infer<typeof projectId>;
export const keyId = id<"KeyId">("key");
export type KeyId = z.infer<typeof keyId>;
export const adapterId = id<"AdapterId">("adp");
export type AdapterId = z.infer<typeof adapterId>;
export const requestId = id<"RequestId">("req");
export type RequestId = z.infer<typeof requestId>;
export const runId = id<"RunId">("run");
export type RunId = z.infer<typeof runId>;
export const datasetId = id<"DatasetId">("ds");
export type DatasetId = z.infer<typeof datasetId>;
export const priceId = id<"PriceId">("price");
export type PriceId = z.infer<typeof priceId>;
export const routeId = id<"RouteId">("route");
export type RouteId = z.infer<typeof routeId>;
export const measurementId = id<"MeasurementId">("msr");
export type MeasurementId = z.infer<typeof measurementId>;

export const userId = id<"UserId">("user");
export type UserId = z.infer<typeof userId>;
export const serviceAccountId = id<"ServiceAccountId">("svc");
export type ServiceAccountId = z.infer<typeof serviceAccountId>;

export const inviteId = id<"InviteId">("invite");
export type InviteId = z.infer<typeof inviteId>;
export const spendAlertId = id<"SpendAlertId">("alert");
export type SpendAlertId = z.infer<typeof spendAlertId>;

/** The content's identity, everywhere: 64 lower-case hex digits of SHA-256. */
export const sha256 = z
  .string()
  .regex(/^[0-9a-f]{64}$/, "expected 64 hex digits of SHA-256")
  .brand<"Sha256">();
export type Sha256 = z.infer<typeof sha256>;

type Prefixed = {
  proj: ProjectId;
  key: KeyId;
  adp: AdapterId;
  req: RequestId;
  run: RunId;
  ds: DatasetId;
  price: PriceId;
  route: RouteId;
  msr: MeasurementId;
  user: UserId;
  svc: ServiceAccountId;
  invite: InviteId;
  alert: SpendAlertId;
};

/** Source of an id's 80 random bits; `crypto.getRandomValues` unless a test passes its own. */
export type RandomBytes = (length: number) => Uint8Array;

/**
 * A new id: 48 bits of time, then 80 random bits, in Crockford's base 32 (as a ULID is, lower case).
 * @param nowMs milliseconds since 1970
 */
export function newId<P extends keyof Prefixed>(
  prefix: P,
  nowMs = Date.now(),
  random: RandomBytes = randomBytes,
): Prefixed[P] {
  return `${prefix}_${sortableText(nowMs, random)}` as Prefixed[P];
}

/** The 26 characters of an id, for ids whose form is another's: OpenAI's files are `file-…`. */
export function sortableText(nowMs: number, random: RandomBytes = randomBytes): string {
  // In halves that a double holds exactly: a BigInt of all 128 bits is an object for each of its digits.
  let text = "";
  for (let digit = 9, rest = nowMs; digit >= 0; digit--) {
    text = alphabet[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  const bytes = random(10);
  for (let at = 0; at < bytes.length; at += 5) {
    let high = 0;
    for (let index = at; index < at + 5; index++) high = high * 256 + (bytes[index] ?? 0);
    let part = "";
    for (let digit = 0; digit < 8; digit++) {
      part = alphabet[high % 32] + part;
      high = Math.floor(high / 32);
    }
    text += part;
  }
  return text;
}

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** Random bytes are drawn by the page: one call for each id would cost more than the rest of it. */
const page = new Uint8Array(4096);
let pageUsed = page.length;
const randomBytes: RandomBytes = (length) => {
  if (pageUsed + length > page.length) {
    crypto.getRandomValues(page);
    pageUsed = 0;
  }
  pageUsed += length;
  return page.subarray(pageUsed - length, pageUsed);
};
