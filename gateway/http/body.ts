/** A JSON body, read with a bound on its bytes. */
import { HubError } from "../../sdk/protocol/errors.ts";

/**
 * A body with a length is refused before it is read; one without is counted as it comes.
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`
 */
export async function readJsonBody(
  request: Request,
  bytesMax: number,
): Promise<{ value: unknown; bytes: number }> {
  const type = request.headers.get("content-type");
  if (type !== null && !/^application\/(?:[\w.+-]+\+)?json\b/i.test(type)) {
    throw new HubError(
      "unsupported_media_type",
      `Unsupported content type '${type.slice(0, 100)}'. Send JSON with the header 'Content-Type: application/json'.`,
    );
  }
  const length = request.headers.get("content-length");
  if (length !== null && Number(length) > bytesMax) throw tooLarge(bytesMax);
  // With a length, the HTTP server itself hands out no more than that.
  const text = await (length === null ? readCounted(request, bytesMax) : request.text()).catch(
    (cause) => {
      if (cause instanceof HubError) throw cause;
      throw new HubError("request_cancelled", "The request ended before its body did.", { cause });
    },
  );
  try {
    return {
      value: JSON.parse(text),
      bytes: length === null ? Buffer.byteLength(text) : Number(length),
    };
  } catch (error) {
    throw new HubError(
      "invalid_json",
      "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. Check that the body is valid JSON.)",
      { cause: error },
    );
  }
}

async function readCounted(request: Request, bytesMax: number): Promise<string> {
  if (request.body === null) return "";
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body as ReadableStream<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge(bytesMax);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function tooLarge(bytesMax: number): HubError {
  return new HubError(
    "request_too_large",
    `The request body is larger than ${bytesMax} bytes, which is the most that is accepted.`,
  );
}
