/**
 * Splits a `multipart/form-data` body into its parts without copying them: `Request.formData` holds
 * a gigabyte of weights three times over.
 * @see RFC 7578; RFC 2046 §5.1.1
 */
import { HubError } from "../../sdk/protocol/errors.ts";

/** Bounds of the parts that are expected; a part of another name is refused. */
export type PartLimits = Readonly<Record<string, { bytesMax: number }>>;

/**
 * @param contentType the request's header, which names the boundary
 * @param limits every part that must be there, exactly once, in any order
 * @returns the bytes of each part, as ranges of `body`
 * @throws HubError `unsupported_media_type`, `invalid_value`, `missing_required_parameter`,
 *   `request_too_large`; they name the part
 */
export function splitMultipart<Name extends string>(
  body: Buffer,
  contentType: string | null,
  limits: PartLimits & Record<Name, { bytesMax: number }>,
): Record<Name, Buffer> {
  const parts: Partial<Record<string, Buffer>> = Object.create(null);
  for (const { name, content } of partsOf(body, boundaryOf(contentType))) {
    const limit = Object.hasOwn(limits, name) ? limits[name] : undefined;
    if (limit === undefined) {
      const known = Object.keys(limits).join(", ");
      throw malformed(`has a part '${name.slice(0, 80)}'; expected only ${known}`);
    }
    if (parts[name] !== undefined) throw malformed(`has the part '${name}' twice`);
    if (content.length > limit.bytesMax) {
      throw new HubError(
        "request_too_large",
        `The part '${name}' has ${content.length} bytes; at most ${limit.bytesMax} are accepted.`,
        { param: name },
      );
    }
    parts[name] = content;
  }
  for (const name of Object.keys(limits)) {
    if (parts[name] === undefined) {
      throw new HubError("missing_required_parameter", `The form has no part '${name}'.`, {
        param: name,
      });
    }
  }
  return parts as Record<Name, Buffer>;
}

function boundaryOf(contentType: string | null): string {
  const match = /^multipart\/form-data\s*;.*\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(
    contentType ?? "",
  );
  const boundary = match?.[1] ?? match?.[2];
  if (boundary === undefined) {
    throw new HubError(
      "unsupported_media_type",
      "Send this as multipart/form-data with a boundary of at most 70 characters.",
    );
  }
  return boundary;
}

function* partsOf(body: Buffer, boundary: string): Generator<{ name: string; content: Buffer }> {
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  // The first delimiter has no line end before it.
  if (!body.subarray(0, delimiter.length - 2).equals(delimiter.subarray(2))) {
    throw malformed("does not begin with its boundary");
  }
  let at = delimiter.length - 2;
  for (let count = 0; !startsWith(body, at, "--"); count++) {
    if (count === partsMax) throw malformed(`has more than ${partsMax} parts`);
    if (!startsWith(body, at, "\r\n"))
      throw malformed("has a boundary that ends in the middle of a line");
    const headersEnd = body.indexOf("\r\n\r\n", at);
    const end = headersEnd === -1 ? -1 : body.indexOf(delimiter, headersEnd + 2);
    if (headersEnd === -1 || end === -1) throw malformed("ends in the middle of a part");
    if (headersEnd - at > headerBytesMax) throw malformed("has a part with too long headers");
    const name = nameOf(body.toString("utf8", at + 2, headersEnd));
    yield { name, content: body.subarray(Math.min(headersEnd + 4, end), end) };
    at = end + delimiter.length;
  }
}

function startsWith(body: Buffer, at: number, text: string): boolean {
  return body.toString("latin1", at, at + text.length) === text;
}

/** The form field's name; the file name a client sends is of no interest and never used as a path. */
function nameOf(headers: string): string {
  const disposition = headers
    .split("\r\n")
    .find((line) => /^content-disposition\s*:\s*form-data\b/i.test(line));
  const name = /;\s*name="([^"\r\n]*)"/i.exec(disposition ?? "")?.[1];
  if (name === undefined) throw malformed("has a part without a name");
  return name;
}

function malformed(problem: string): HubError {
  return new HubError("invalid_value", `The multipart form ${problem}.`);
}

const partsMax = 16;
const headerBytesMax = 8192;
