/** Answers as they leave: the headers that tell a client what answered, whole answers, streams, refusals. */
import { asHubError, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { adapterDigestHeader, servedModelHeader, taskHeader } from "../../sdk/protocol/http.ts";
import { formatUsd, type PicoUsd } from "../../sdk/protocol/money.ts";
import type { Dialect } from "../dialects/dialect.ts";
import type { Decision } from "../routing/plan.ts";
import type { Target } from "../routing/resolve.ts";

export function answerHeaders(
  answered: { target: Target; adapterDigest: string | undefined; dropped: readonly string[] },
  { task, route }: Decision,
): Record<string, string> {
  const { target, adapterDigest, dropped } = answered;
  return {
    [servedModelHeader]: target.name,
    ...(adapterDigest !== undefined && { [adapterDigestHeader]: adapterDigest }),
    ...(task !== undefined && { [taskHeader]: task }),
    ...(route !== undefined && { "x-switchyard-route": route }),
    ...(dropped.length > 0 && { "x-switchyard-dropped": toHeaderText(dropped) }),
  };
}

/** Names of fields are a client's own words, and a header takes only some characters and no more than a few. */
function toHeaderText(names: readonly string[]): string {
  return names
    .slice(0, 50)
    .map((name) => name.slice(0, 64).replace(/[^\x21-\x7e]|,/g, "?"))
    .join(", ");
}

/** @param cost absent when it is unknown: then there is no header, and not a zero */
export function wholeAnswer(
  { bytes, contentType = "application/json" }: { bytes: Uint8Array; contentType?: string },
  headers: Record<string, string>,
  cost: PicoUsd | undefined,
): Response {
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    status: 200,
    headers: {
      ...headers,
      "content-type": contentType,
      ...(cost !== undefined && { "x-switchyard-cost-usd": formatUsd(cost) }),
    },
  });
}

/** Proxies on the way must neither keep, compress nor gather the events. */
export function streamedAnswer(
  body: ReadableStream<Uint8Array>,
  contentType: string,
  headers: Record<string, string>,
): Response {
  return new Response(body, {
    status: 200,
    headers: {
      ...headers,
      "content-type": contentType,
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
    },
  });
}

/** Any thrown value in the client's own dialect. */
export function refusal(
  error: unknown,
  { dialect, requestId }: { dialect: Dialect; requestId: string },
  headers: Record<string, string>,
): Response {
  const hubError = asHubError(error);
  const { status, headers: all } = toErrorResponse(hubError, headers);
  return Response.json(dialect.writeError(hubError, requestId), {
    status: dialect.errorStatus?.(hubError) ?? status,
    headers: all,
  });
}
