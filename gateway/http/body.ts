/** A JSON body, read with a bound on its bytes, and one on its depth. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { hasMoreValues, isNestedDeeper } from "./json-text.ts";

export type JsonBody = { value: unknown; text: string; bytes: number };

export type BodyLimits = {
  requestBytesMax: number;
  /** Schemas look at each value, and nobody else is served meanwhile. */
  requestValuesMax: number;
  nestingMax: number;
};

/**
 * A body with a length is refused before it is read; one without is counted as it comes.
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`
 */
export async function readJsonBody(
  request: Request,
  { requestBytesMax: bytesMax, requestValuesMax }: Omit<BodyLimits, "nestingMax">,
): Promise<JsonBody> {
  const type = request.headers.get("content-type");
  if (type !== null && !/^application\/(?:[\w.+-]+\+)?json\b/i.test(type)) {
    throw new HubError(
      "unsupported_media_type",
      `Unsupported content type '${type.slice(0, 100)}'. Send JSON with the header 'Content-Type: application/json'.`,
    );
  }
  const coding = request.headers.get("content-encoding");
  if (coding !== null && coding.toLowerCase() !== "identity") {
    throw new HubError(
      "unsupported_media_type",
      `Unsupported content encoding '${coding.slice(0, 100)}'. Send the JSON as it is, not compressed.`,
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
  const json = parseJsonText(text, { requestValuesMax });
  return length === null ? json : { ...json, bytes: Number(length) };
}

/** @throws HubError `request_too_large`, `invalid_json` */
export function parseJsonText(
  text: string,
  { requestValuesMax }: Pick<BodyLimits, "requestValuesMax">,
): JsonBody {
  if (hasMoreValues(text, requestValuesMax)) {
    throw new HubError(
      "request_too_large",
      `A request body may have at most ${requestValuesMax} values, list items included. Send them in several requests.`,
    );
  }
  return { value: parseJson(text), text, bytes: Buffer.byteLength(text) };
}

/**
 * For what will be written again: parsing takes any depth, and writing only that of the stack.
 * @throws HubError `invalid_value`
 */
export function refuseDeeper({ text }: JsonBody, nestingMax: number): void {
  if (!isNestedDeeper(text, nestingMax)) return;
  throw new HubError(
    "invalid_value",
    `The request body is nested too deeply: ${nestingMax} levels are the most that is accepted.`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
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
  // As `request.text()` does: a byte order mark is no part of the text.
  return new TextDecoder().decode(Buffer.concat(chunks));
}

function tooLarge(bytesMax: number): HubError {
  return new HubError(
    "request_too_large",
    `The request body is larger than ${bytesMax} bytes, which is the most that is accepted.`,
  );
}
