/** The decision and all calls that were made for a request, as headers, for who asks for them. */
import type { Tried } from "../attempts/ask-model.ts";
import type { Decision } from "../routing/plan.ts";

const explainHeader = "x-switchyard-explain";

/**
 * `x-switchyard-decision` and `x-switchyard-tried`: JSON in ASCII, without what upstreams said, cut to what proxies and
 * clients take in a header. All of it is at `GET /api/requests/:id`.
 */
export function explainHeaders(
  request: Request,
  { decision, tried }: { decision: Decision; tried: readonly Tried[] },
): Record<string, string> {
  const asked = request.headers.get(explainHeader);
  if (asked === null || asked === "0" || asked === "false") return {};
  const { considered, ...rest } = decision;
  const short = considered.map(({ model, role, verdict, reason }) => ({
    model,
    role,
    verdict,
    ...(reason && { reason }),
  }));
  const calls = tried.map(({ message: _, ...call }) => call);
  const whole = toAscii({ ...rest, considered: short });
  return {
    "x-switchyard-decision": whole.length <= charsMax ? whole : toAscii(rest).slice(0, charsMax),
    "x-switchyard-tried": fitting(calls),
  };
}

/** The newest calls, as many as fit. */
function fitting(calls: readonly object[]): string {
  for (let from = 0; from < calls.length; from++) {
    const text = toAscii(calls.slice(from));
    if (text.length <= charsMax) return text;
  }
  return "[]";
}

/** A header takes only some characters; what JSON escapes is the same JSON. */
function toAscii(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Node's clients take 16 KiB of headers in all. */
const charsMax = 4096;
