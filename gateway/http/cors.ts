/** Lets pages of any origin call the API: credentials are bearer keys, never cookies, so `*` gives nothing away. */

/**
 * The headers that a page asks for are echoed: official SDKs send a growing set of `x-stainless-*`, and any
 * fixed list has gone stale before.
 */
export function answerPreflight(request: Request, headers: Record<string, string>): Response {
  return new Response(null, {
    status: 204,
    headers: {
      ...headers,
      "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
      "access-control-allow-headers":
        request.headers.get("access-control-request-headers") ?? "authorization, content-type",
      "access-control-max-age": "86400",
      vary: "access-control-request-headers",
    },
  });
}
