/**
 * Reads a `multipart/form-data` body part by part as it arrives. Nothing is read before it is asked for, so a
 * slow disk slows the client, and what is held is never more than one chunk and a boundary.
 * @see RFC 7578; RFC 2046 §5.1.1
 */
import { HubError } from "../../sdk/protocol/errors.ts";

export type FormPart = {
  name: string;
  /** As the client wrote it, a path perhaps; absent for a plain field. */
  filename: string | undefined;
  contentType: string | undefined;
  /** The content. What is left unread when the next part is asked for is skipped. */
  chunks: AsyncIterable<Uint8Array>;
};

export type FormLimits = { partsMax: number };

/**
 * @throws HubError `unsupported_media_type` without a boundary; `invalid_value` where the bytes are no such
 *   form, also in the middle of a part; `request_cancelled` when the body breaks off
 */
export async function* readForm(
  request: Pick<Request, "headers" | "body">,
  { partsMax }: FormLimits,
): AsyncGenerator<FormPart> {
  const boundary = boundaryOf(request.headers.get("content-type"));
  const input = new Input(request.body);
  // The first delimiter has no line end before it.
  const opening = Buffer.from(`--${boundary}`);
  if (!(await input.take(opening.length)).equals(opening)) {
    throw malformed("does not begin with its boundary");
  }
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  for (let count = 0; !(await isLast(input)); count++) {
    if (count === partsMax) throw malformed(`has more than ${partsMax} parts`);
    const chunks = contentOf(input, delimiter, await readHeaders(input));
    yield chunks.part;
    await chunks.skip();
  }
}

/**
 * Reads a part that is a plain field.
 * @throws HubError `request_too_large`
 */
export async function readField({ name, chunks }: FormPart, bytesMax: number): Promise<string> {
  const read: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      throw new HubError(
        "request_too_large",
        `The part '${name}' is larger than ${bytesMax} bytes, which is the most that is accepted.`,
        { param: name },
      );
    }
    read.push(chunk);
  }
  return Buffer.concat(read).toString("utf8");
}

function boundaryOf(contentType: string | null): string {
  const match = /^multipart\/form-data\s*;.*\bboundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(
    contentType ?? "",
  );
  const boundary = match?.[1] ?? match?.[2];
  if (boundary !== undefined) return boundary;
  throw new HubError(
    "unsupported_media_type",
    "Send this as multipart/form-data with a boundary of at most 70 characters.",
  );
}

/** After a boundary comes a line end, or two hyphens after the last. */
async function isLast(input: Input): Promise<boolean> {
  const end = (await input.take(2)).toString("latin1");
  if (end === "--") return true;
  if (end === "\r\n") return false;
  throw malformed("has a boundary that ends in the middle of a line");
}

async function readHeaders(input: Input): Promise<string[]> {
  // A part without headers has the empty line at once.
  const first = await input.take(2);
  if (first.equals(lineEnd)) return [];
  const rest = await input.takeUntil(Buffer.from("\r\n\r\n"), headerBytesMax);
  if (!rest) throw malformed(`has a part with headers of more than ${headerBytesMax} bytes`);
  return Buffer.concat([first, rest]).toString("utf8").split("\r\n");
}

function contentOf(input: Input, delimiter: Buffer, headers: readonly string[]) {
  let ended = false;
  async function* read(): AsyncGenerator<Uint8Array> {
    while (!ended) {
      const { bytes, found } = await input.takeSome(delimiter);
      ended = found;
      if (bytes.length > 0) yield bytes;
    }
  }
  const disposition = headers.find((it) => /^content-disposition\s*:\s*form-data\b/i.test(it));
  const name = parameterOf(disposition, "name");
  if (name === undefined) throw malformed("has a part without a name");
  const type = headers.find((it) => /^content-type\s*:/i.test(it));
  // The consumer may stop in the middle: the rest is read here, from where it stopped.
  const chunks: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: read };
  return {
    part: {
      name,
      filename: parameterOf(disposition, "filename"),
      contentType: type?.slice(type.indexOf(":") + 1).trim(),
      chunks,
    },
    async skip() {
      for await (const _ of chunks);
    },
  };
}

/** Browsers and clients write a quote in a name as `%22`, or as `\"`. */
function parameterOf(disposition: string | undefined, parameter: string): string | undefined {
  const pattern = new RegExp(`;\\s*${parameter}="((?:[^"\\\\\\r\\n]|\\\\.)*)"`, "i");
  return pattern
    .exec(disposition ?? "")?.[1]
    ?.replace(/\\(["\\])/g, "$1")
    .replaceAll("%22", '"');
}

/** Bytes that have come and were not taken yet. */
class Input {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #held: Buffer = Buffer.alloc(0);

  constructor(body: ReadableStream<Uint8Array> | null) {
    this.#reader = body?.getReader();
  }

  async take(length: number): Promise<Buffer> {
    while (this.#held.length < length) await this.#more();
    return this.#cut(length);
  }

  /** Up to the end of `mark`, without it; nothing when it does not come within `lengthMax`. */
  async takeUntil(mark: Buffer, lengthMax: number): Promise<Buffer | undefined> {
    for (;;) {
      const at = this.#held.indexOf(mark);
      if (at > lengthMax || (at === -1 && this.#held.length > lengthMax)) return undefined;
      if (at !== -1) {
        const taken = this.#cut(at);
        this.#cut(mark.length);
        return taken;
      }
      await this.#more();
    }
  }

  /** What is here and certainly before `mark`; at the mark, that is taken too. */
  async takeSome(mark: Buffer): Promise<{ bytes: Buffer; found: boolean }> {
    for (;;) {
      const at = this.#held.indexOf(mark);
      if (at !== -1) {
        const bytes = this.#cut(at);
        this.#cut(mark.length);
        return { bytes, found: true };
      }
      // The mark may have begun within the last bytes.
      const certain = this.#held.length - mark.length + 1;
      if (certain > 0) return { bytes: this.#cut(certain), found: false };
      await this.#more();
    }
  }

  #cut(length: number): Buffer {
    const cut = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    return cut;
  }

  async #more(): Promise<void> {
    const next = await this.#reader?.read().catch((cause) => {
      throw new HubError("request_cancelled", "The request ended before its body did.", { cause });
    });
    if (!next || next.done) throw malformed("ends in the middle of a part");
    const { buffer, byteOffset, byteLength } = next.value;
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
  }
}

function malformed(problem: string): HubError {
  return new HubError("invalid_value", `The multipart form ${problem}.`);
}

const lineEnd = Buffer.from("\r\n");
const headerBytesMax = 8192;
