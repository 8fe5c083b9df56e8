/** What providers sign, as `thoughtSignature`: Google's as it is, and others' wrapped, so that all come back whole. */
import { z } from "zod";
import type { ReasoningPart } from "../../canonical/request.ts";
import { markSeal, openSeal } from "../../canonical/seal.ts";

export type Seal = Pick<ReasoningPart, "signature" | "encrypted" | "id">;

/** The field's type is bytes, so SDKs of some languages insist on base64. */
export function toThoughtSignature(seal: Seal): string | undefined {
  const { signature, encrypted, id } = seal;
  if (signature === undefined && encrypted === undefined) return undefined;
  const google = encrypted === undefined ? openSeal("google", signature) : undefined;
  if (google !== undefined) return google;
  return Buffer.from(JSON.stringify({ seal: { signature, encrypted, id } })).toString("base64");
}

export function fromThoughtSignature(signature: string): Seal {
  if (signature.startsWith(wrapped)) {
    try {
      const text = Buffer.from(signature, "base64").toString();
      const { seal } = sealed.parse(JSON.parse(text));
      return Object.fromEntries(Object.entries(seal).filter(([, value]) => value !== undefined));
    } catch {
      // It only looks like ours.
    }
  }
  return { signature: markSeal("google", signature) };
}

/** As `{"seal":` begins in base64. */
const wrapped = "eyJzZWFsIj";
const sealed = z.object({
  seal: z.object({
    signature: z.string().optional(),
    encrypted: z.string().optional(),
    id: z.string().optional(),
  }),
});
