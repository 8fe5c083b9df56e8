/** Request bodies, read with a bound on their bytes. */
import type { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";

/**
 * An empty body counts as `{}`, so that it is told which field is missing, if any is.
 * @throws HubError `request_too_large`, `invalid_json`, and `fromZodError`'s for a wrong field
 */
export async function readJson<S extends z.ZodType>(
  request: Request,
  schema: S,
  bytesMax: number,
): Promise<z.infer<S>> {
  const bytes = await readBytes(request, bytesMax);
  let value: unknown;
  try {
    value = bytes.length === 0 ? {} : JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new HubError("invalid_json", "The request's body is not valid JSON.", { cause });
  }
  return parseOrThrow(schema, value);
}

/** A body that names its length is refused before it is read; one that does not is counted as it comes. */
export async function readBytes(request: Request, bytesMax: number): Promise<Buffer> {
  if (Number(request.headers.get("content-length") ?? 0) > bytesMax) throw tooLarge(bytesMax);
  if (request.body === null) return Buffer.alloc(0);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body as ReadableStream<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

function tooLarge(bytesMax: number): HubError {
  return new HubError(
    "request_too_large",
    `The request's body is larger than ${bytesMax} bytes, which is the most that is accepted here.`,
  );
}
