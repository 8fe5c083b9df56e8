/** A request's body as JSON, within bounds on how much there is to look at. */
import { HubError } from "../sdk/protocol/errors.ts";

/**
 * @param valuesMax values in all, nested ones included: schemas look at each, and nobody else is served meanwhile
 * @throws HubError `invalid_json`, `request_too_large`
 */
export async function readJsonBody(request: Request, valuesMax: number): Promise<unknown> {
  const body = parse(await request.text());
  if (hasMoreThan(valuesMax, body)) {
    throw new HubError(
      "request_too_large",
      `A request body may have at most ${valuesMax} values, list items included. Send them in several requests.`,
    );
  }
  return body;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new HubError("invalid_json", "The request body is not valid JSON.");
  }
}

/** However deep they are nested. */
function hasMoreThan(max: number, body: unknown): boolean {
  const open: unknown[] = [body];
  let count = 0;
  while (open.length > 0) {
    const value = open.pop();
    if (typeof value !== "object" || value === null) continue;
    const inner = Object.values(value);
    count += inner.length;
    if (count > max) return true;
    for (const one of inner) if (typeof one === "object") open.push(one);
  }
  return false;
}
