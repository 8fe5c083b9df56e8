/** Tokens of sessions: random, and signed, so that one that was made up is known as such without asking a database. */
import { sessionPrefix } from "./roles.ts";

/** 256 random bits and a signature of 128. @param secret the operator's, which all services of an installation have */
export async function newSessionToken(secret: string): Promise<string> {
  const random = crypto.getRandomValues(new Uint8Array(randomBytes));
  const signature = await crypto.subtle.sign("HMAC", await signingKey(secret), random);
  const token = new Uint8Array(randomBytes + signatureBytes);
  token.set(random);
  token.set(new Uint8Array(signature, 0, signatureBytes), randomBytes);
  return sessionPrefix + toBase64Url(token);
}

/** Whether it was made here; whether the session still lasts is another question. Takes as long whatever is wrong with it. */
export async function isSessionToken(text: string, secret: string): Promise<boolean> {
  const given = fromBase64Url(text.slice(sessionPrefix.length));
  const random = new Uint8Array(randomBytes);
  random.set(given.subarray(0, randomBytes));
  const signature = await crypto.subtle.sign("HMAC", await signingKey(secret), random);
  const expected = new Uint8Array(signature, 0, signatureBytes);
  let difference = given.length ^ (randomBytes + signatureBytes);
  for (let i = 0; i < signatureBytes; i++) {
    difference |= (expected[i] ?? 0) ^ (given[randomBytes + i] ?? 0);
  }
  return difference === 0 && text.startsWith(sessionPrefix);
}

/** Derived once from each secret. */
function signingKey(secret: string): Promise<SigningKey> {
  let key = keys.get(secret);
  if (key === undefined) {
    const bytes = encoder.encode(`switchyard session\n${secret}`);
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    key = crypto.subtle.importKey("raw", bytes, algorithm, false, ["sign"]);
    keys.set(secret, key);
  }
  return key;
}

function toBase64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

function fromBase64Url(text: string): Uint8Array {
  if (!/^[\w-]{1,128}$/.test(text)) return new Uint8Array();
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

const encoder = new TextEncoder();
/** As many as there are secrets in one process, which is one. */
type SigningKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;
const keys = new Map<string, Promise<SigningKey>>();
const randomBytes = 32;
const signatureBytes = 16;
