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
  let bits = BigInt(nowMs) << 80n;
  for (const [index, byte] of random(10).entries()) bits |= BigInt(byte) << BigInt(72 - 8 * index);
  let text = "";
  for (let digit = 25; digit >= 0; digit--)
    text += alphabet[Number((bits >> BigInt(5 * digit)) & 31n)];
  return `${prefix}_${text}` as Prefixed[P];
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
