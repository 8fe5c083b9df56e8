/** Who calls: the operator, a client with the API key, or anyone where no key is asked for. */
import { createHash, timingSafeEqual } from "node:crypto";
import { HubError } from "../sdk/protocol/errors.ts";

export type Keys = { operatorKey?: string | undefined; apiKey?: string | undefined };

/**
 * Whether the caller holds the operator's key.
 * @throws HubError `missing_api_key`, `invalid_api_key`
 */
export function identify({ operatorKey, apiKey }: Keys, header: string | undefined): boolean {
  const presented = /^Bearer (.+)$/i.exec(header ?? "")?.[1];
  if (presented !== undefined && operatorKey !== undefined && isSame(presented, operatorKey))
    return true;
  if (apiKey === undefined) return false;
  if (presented === undefined) {
    throw new HubError(
      "missing_api_key",
      "You didn't provide an API key. Send it as 'Authorization: Bearer KEY'.",
    );
  }
  if (!isSame(presented, apiKey))
    throw new HubError("invalid_api_key", "Incorrect API key provided.");
  return false;
}

export function requireOperator({ operatorKey }: Keys, isOperator: boolean): void {
  if (isOperator) return;
  throw operatorKey === undefined
    ? new HubError(
        "unknown_url",
        "Loading adapters is off: the server was started without an operator key.",
      )
    : new HubError("invalid_api_key", "This route needs the operator's key.");
}

/** In a time that tells nothing about how much of the key was right. */
function isSame(a: string, b: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
