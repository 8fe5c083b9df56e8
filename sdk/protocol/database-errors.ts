/** What a Postgres refuses because of a client's value, told as the client's mistake. */
import { HubError } from "./errors.ts";

/** The driver's or the server's code of an error, however deep it is wrapped. */
export function databaseErrorCode(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if ("code" in at && typeof at.code === "string") return at.code;
  }
  return undefined;
}

/** A refusal for values that no column takes; `undefined` for every other error. */
export function asUnstorable(error: unknown): HubError | undefined {
  if (error instanceof HubError || !unstorable.has(databaseErrorCode(error) ?? ""))
    return undefined;
  return new HubError(
    "invalid_value",
    "A value of the request cannot be stored: it holds the character U+0000 or half of a surrogate pair, or a number out of range.",
    { cause: error },
  );
}

/**
 * SQLSTATE character_not_in_repertoire, untranslatable_character, invalid_text_representation (JSON with half a
 * surrogate pair) and numeric_value_out_of_range.
 * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const unstorable: ReadonlySet<string> = new Set(["22021", "22P05", "22P02", "22003"]);
