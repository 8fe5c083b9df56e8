/** API keys: how they are made, and the hash by which they are known. */
import { hash, randomInt } from "node:crypto";
import { crc32 } from "node:zlib";
import { type Sha256, sha256 } from "../sdk/protocol/ids.ts";

/**
 * `sk-sy-…` for projects, `sk-sy-admin-…` for admins: 32 random base62 characters (190 bits) and six
 * that check them, so that a scanner for leaked secrets can tell a key from noise.
 * @param randomDigit a uniform number below 62
 */
export function generateKey(
  role: "admin" | "project",
  randomDigit: () => number = () => randomInt(alphabet.length),
): string {
  const prefix = role === "admin" ? "sk-sy-admin-" : "sk-sy-";
  const secret = Array.from({ length: 32 }, () => alphabet[randomDigit()]).join("");
  return prefix + secret + checksum(prefix + secret);
}

/** `sk-sy-…wxyz`: enough for people to tell keys apart. The end is of the checksum and tells nothing of the secret. */
export function redactKey(key: string): string {
  return `${/^sk-sy-(?:admin-)?/.exec(key)?.[0] ?? ""}***${key.slice(-4)}`;
}

/** Whether the checksum is right: the end of what somebody made up could be a part of its secret. */
export function isGenerated(key: string): boolean {
  const [, text, check] = /^(sk-sy-(?:admin-)?[0-9A-Za-z]{32})([0-9A-Za-z]{6})$/.exec(key) ?? [];
  return text !== undefined && checksum(text) === check;
}

/** What is stored, and looked up: with 190 random bits a plain hash cannot be turned round. */
export function hashKey(key: string): Sha256 {
  return sha256.parse(hash("sha256", key));
}

/** CRC-32 in base 62, six digits. */
function checksum(text: string): string {
  let rest = crc32(text);
  let digits = "";
  for (let i = 0; i < 6; i++) {
    digits = alphabet[rest % 62] + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
