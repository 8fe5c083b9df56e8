/** AES-256-GCM: bytes that only the key opens, and only in the place for which they were sealed. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

export const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/**
 * `nonce ‖ ciphertext ‖ tag`. A random nonce is safe for 2³² messages of one key (NIST SP 800-38D §8.3).
 * @param place what the bytes belong to; whoever opens them has to name the same
 */
export function seal(bytes: Uint8Array, key: Uint8Array, place: string): Buffer {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(place));
  return Buffer.concat([nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
}

/** @returns nothing where the key, the place or a bit of the bytes is another than it was */
export function unseal(sealed: Uint8Array, key: Uint8Array, place: string): Buffer | undefined {
  if (sealed.length < nonceBytes + tagBytes) return undefined;
  const end = sealed.length - tagBytes;
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, nonceBytes), {
    authTagLength: tagBytes,
  });
  decipher.setAAD(Buffer.from(place));
  decipher.setAuthTag(sealed.subarray(end));
  const bytes = decipher.update(sealed.subarray(nonceBytes, end));
  try {
    return Buffer.concat([bytes, decipher.final()]);
  } catch {
    return undefined;
  }
}
