/** Where clients of each dialect put their key. */

/** The key as `Authorization` has it; a header of that name wins. */
export function credentialOf({ headers }: Request): string | null {
  const authorization = headers.get("authorization");
  if (authorization !== null) return authorization;
  for (const name of keyHeaders) {
    const key = headers.get(name);
    if (key !== null) return `Bearer ${key}`;
  }
  return null;
}

/** Anthropic's, Google's and Azure's. */
const keyHeaders = ["x-api-key", "x-goog-api-key", "api-key"];
