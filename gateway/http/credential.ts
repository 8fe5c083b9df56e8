/** Where clients of each dialect put their key. */
import { isGeminiPath } from "../dialects/gemini/address.ts";

/** The key as `Authorization` has it; a header of that name wins, and an address is looked at last. */
export function credentialOf({ headers, url }: Request): string | null {
  const authorization = headers.get("authorization");
  if (authorization !== null) return authorization;
  for (const name of keyHeaders) {
    const key = headers.get(name);
    if (key !== null) return `Bearer ${key}`;
  }
  const { pathname, searchParams } = new URL(url);
  const key = isGeminiPath(pathname) ? searchParams.get("key") : null;
  return key === null ? null : `Bearer ${key}`;
}

/** Anthropic's, Google's and Azure's. */
const keyHeaders = ["x-api-key", "x-goog-api-key", "api-key"];
