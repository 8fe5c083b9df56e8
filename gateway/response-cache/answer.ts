/** An answer as it is kept: what was sent to the client, and what it had used. */
import { z } from "zod";
import { type UsageVector, usageVector } from "../../sdk/protocol/usage.ts";

export type CachedAnswer = {
  /** Of the request that was answered first. */
  requestId: string;
  storedAtMs: number;
  /** Those that belong to the answer, and not to the moment in which it was given. */
  headers: Readonly<Record<string, string>>;
  adapterDigest?: string | undefined;
  /** What the model used for it. */
  usage: UsageVector;
  estimated: boolean;
  /** Of a stream: when each piece came, in milliseconds after the request, and how many bytes it had. */
  pieces?: readonly (readonly [atMs: number, bytes: number])[] | undefined;
  body: Uint8Array;
};

/** The head's length in four bytes, the head as JSON, the body. */
export function encodeAnswer({ body, ...head }: CachedAnswer): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.length);
  return Buffer.concat([length, json, body]);
}

/** @returns nothing for bytes that nobody here wrote so */
export function decodeAnswer(bytes: Buffer): CachedAnswer | undefined {
  try {
    const end = 4 + bytes.readUInt32BE(0);
    const head = answerHead.parse(JSON.parse(bytes.toString("utf8", 4, end)));
    return { ...head, body: bytes.subarray(end) };
  } catch {
    return undefined;
  }
}

const answerHead = z.object({
  requestId: z.string(),
  storedAtMs: z.number(),
  headers: z.record(z.string(), z.string()),
  adapterDigest: z.string().optional(),
  usage: usageVector,
  estimated: z.boolean(),
  pieces: z.array(z.tuple([z.number(), z.int().nonnegative()])).optional(),
});
