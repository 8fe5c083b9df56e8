/** A request's body as JSON, within bounds on how much there is to look at. */
import { HubError } from "../sdk/protocol/errors.ts";

/**
 * @param valuesMax values in all, nested ones included: schemas look at each, and nobody else is served meanwhile
 * @throws HubError `invalid_json`, `request_too_large`, `invalid_value` when they are nested too deep
 */
export async function readJsonBody(request: Request, valuesMax: number): Promise<unknown> {
  const body = parse(await request.text());
  if (hasMoreThan(valuesMax, body)) {
    throw new HubError(
      "request_too_large",
      `A request body may have at most ${valuesMax} values, list items included. Send them in several requests.`,
    );
  }
  refuseDeep(body, undefined);
  return body;
}

/**
 * What is looked through level by level, such as by a chat template, must have a bottom.
 * @param param what the error names; absent for the whole body
 * @throws HubError `invalid_value`
 */
export function refuseDeep(value: unknown, param: string | undefined): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > depthMax) {
      const what = param === undefined ? "The request body" : `'${param}'`;
      throw new HubError("invalid_value", `${what} is nested more than ${depthMax} levels deep.`, {
        param,
      });
    }
    level = level.flatMap((one) => (typeof one === "object" && one ? Object.values(one) : []));
  }
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

/** Schemas may lie 64 deep in one another, each two levels down; what walks over values step by step holds thousands. */
const depthMax = 512;
