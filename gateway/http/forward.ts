/** Passes a request on to another service of Switchyard, and its answer back, body streams included. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { abortableRequest, type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import {
  clientAddressHeader,
  contentLogHeader,
  vouchingHeader,
} from "../../sdk/protocol/vouched.ts";
import { clientAddressOf } from "./client-address.ts";

/**
 * The service checks the caller's own key. Headers of the connection stay behind; `headers` go on the answer.
 * With the operator's key in `vouchedBy` it is told where the request came from. Of a person who is logged in the
 * `session` stands for a key; cookies stay here.
 * @throws HubError `database_unavailable` when the service cannot be reached
 */
export async function forward(
  request: Request,
  service: {
    name: string;
    fetcher: Fetcher;
    vouchedBy?: string;
    session?: string | undefined;
    /** Whether contents can be sealed here, for the registry to know. */
    sealsContents?: boolean;
  },
  headers: Record<string, string>,
): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  const asked = new Headers(request.headers);
  for (const name of [...hopByHop, vouchingHeader, clientAddressHeader, contentLogHeader, "cookie"])
    asked.delete(name);
  if (service.session !== undefined) asked.set("authorization", `Bearer ${service.session}`);
  const address = clientAddressOf(request);
  if (service.vouchedBy !== undefined) {
    asked.set(vouchingHeader, service.vouchedBy);
    if (address !== undefined) asked.set(clientAddressHeader, address);
    if (service.sealsContents) asked.set(contentLogHeader, "sealed");
  }
  // Whoever is asked in this process would leave a stream open that it begins for HEAD: what is begun is closed by us.
  const method = request.method === "HEAD" ? "GET" : request.method;
  const hasBody = method !== "GET" && request.body !== null;
  let response: Response;
  try {
    response = await service.fetcher.fetch(
      abortableRequest(inProcessOrigin + pathname + search, {
        method,
        headers: asked,
        signal: request.signal,
        ...(hasBody && { body: request.body, duplex: "half" }),
      } as RequestInit),
    );
  } catch (cause) {
    throw new HubError(
      "database_unavailable",
      `The ${service.name} cannot be reached at the moment. Requests to models go on.`,
      { cause, retryAfterMs: 1000 },
    );
  }
  const answered = new Headers(response.headers);
  for (const name of [...hopByHop, ...decodedAway]) answered.delete(name);
  for (const [name, value] of Object.entries(headers)) answered.set(name, value);
  return new Response(response.body, { status: response.status, headers: answered });
}

/** RFC 9110 §7.6.1, and what belongs to this connection's host. */
const hopByHop = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "host",
  "expect",
];
/** `fetch` has decompressed the body, so its old coding and length no longer hold. */
const decodedAway = ["content-encoding", "content-length"];
