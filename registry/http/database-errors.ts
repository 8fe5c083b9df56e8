/** Tells a database that is away from a statement that is wrong. */
import { HubError } from "../../sdk/protocol/errors.ts";

/** The driver's or the server's code of an error, however deep it is wrapped. */
export function databaseErrorCode(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if ("code" in at && typeof at.code === "string") return at.code;
  }
  return undefined;
}

/** A lost database becomes 503 with a time to come back; every other error is returned as it is. */
export function withDatabaseUnavailable(error: unknown): unknown {
  if (error instanceof HubError) return error;
  const code = databaseErrorCode(error);
  if (code === undefined || !(awayCodes.has(code) || /^08|^57P0/.test(code))) return error;
  return new HubError(
    "database_unavailable",
    "The registry's database cannot be reached. Requests to models go on; try this again shortly.",
    { retryAfterMs, cause: error },
  );
}

const retryAfterMs = 2000;
/** Codes of the socket and the driver, and SQLSTATE too_many_connections. */
const awayCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "EPIPE",
  "ETIMEDOUT",
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "53300",
]);
