/** Tells a database that is away from a statement that is wrong. */
import { asUnstorable, databaseErrorCode } from "../../sdk/protocol/database-errors.ts";
import { HubError } from "../../sdk/protocol/errors.ts";

/** A lost database becomes 503 with a time to come back, a value that it cannot hold 400; all else stays as it is. */
export function withDatabaseUnavailable(error: unknown): unknown {
  if (error instanceof HubError) return error;
  const refused = asUnstorable(error);
  if (refused) return refused;
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
