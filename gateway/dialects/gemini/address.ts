/** What Google's addresses say: the model, and what is asked of it. */
import { HubError } from "../../../sdk/protocol/errors.ts";

export type GeminiAddress = { model: string; method: string | undefined };

/**
 * As AI Studio has them, `/v1beta/models/{model}:{method}`, and as Vertex does, with a project or a publisher before.
 * Model names hold `/`, `:` and `@`, raw or percent-encoded, so the last colon of a `POST` is the method's.
 * @returns undefined for any other path
 */
export function parseGeminiAddress(
  pathname: string,
  { withMethod }: { withMethod: boolean },
): GeminiAddress | undefined {
  const [, publisher, rest] = address.exec(decode(pathname)) ?? [];
  if (rest === undefined) return undefined;
  const before = publisher === undefined || publisher === "google" ? "" : `${publisher}/`;
  if (!withMethod) return { model: before + rest, method: undefined };
  const colon = rest.lastIndexOf(":");
  if (colon <= 0) return undefined;
  return { model: before + rest.slice(0, colon), method: rest.slice(colon + 1) };
}

/** Whether a request is put as Google's clients put it, and its errors should be told so. */
export function isGeminiPath(pathname: string): boolean {
  return googlesOwn.test(pathname) || methodOfModel.test(decode(pathname));
}

/** The form of a stream that the client reads. @throws HubError for forms that are not served */
export function wantsEvents(query: URLSearchParams): boolean {
  const alt = query.get("alt") ?? query.get("$alt") ?? "json";
  if (alt === "sse" || alt === "json") return alt === "sse";
  throw new HubError("invalid_value", "Invalid 'alt': expected 'sse' or 'json'.", { param: "alt" });
}

function decode(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return pathname;
  }
}

const googlesOwn = /^\/v1(?:beta1?\/|\/(?:projects|publishers)\/)/;
const methodOfModel = /^\/v1\/models\/.*:(?:generateContent|streamGenerateContent|countTokens)$/;
const address =
  /^\/v1(?:beta1?)?\/(?:projects\/[^/]+\/locations\/[^/]+\/)?(?:publishers\/([^/]+)\/)?models\/(.+)$/;
