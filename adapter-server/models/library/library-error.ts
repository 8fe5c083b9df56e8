/** The one error of the model library: what was wrong, and what somebody at a terminal can do about it. */

export type LibraryErrorCode =
  /** The reference, format or file name cannot mean anything here. */
  | "invalid_reference"
  /** Nothing of this name is in the library, on the disk, or on the hub. */
  | "model_not_found"
  | "ambiguous_name"
  /** A running process uses it, or works on it. */
  | "in_use"
  | "too_large_for_memory"
  | "disk_full"
  /** The hub wants a token, or an agreement to the model's terms. */
  | "hub_access_denied"
  /** The hub did not answer, or not as the protocol says. */
  | "hub_failed"
  /** The network may not be used. */
  | "hub_offline"
  /** Bytes are not those that were promised. */
  | "digest_mismatch";

export class LibraryError extends Error {
  override readonly name = "LibraryError";
  readonly code: LibraryErrorCode;
  /** What to do about it, as a sentence. */
  readonly hint: string | undefined;

  constructor(
    code: LibraryErrorCode,
    message: string,
    { hint, cause }: { hint?: string; cause?: unknown } = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.hint = hint;
  }
}
