/** An upload that tells how far it has come. */
import { randomUUID } from "node:crypto";

export type UploadProgress = { sentBytes: number; totalBytes: number };

/**
 * Encodes a form as a stream that is counted while the connection takes it. Without a listener the form
 * goes out as it is, with its length known beforehand.
 */
export function countedUpload(
  form: FormData,
  onProgress: ((progress: UploadProgress) => void) | undefined,
): { body: NonNullable<RequestInit["body"]>; contentType?: string } {
  if (!onProgress) return { body: form };
  const encoded = new Response(form);
  const contentType = encoded.headers.get("content-type") ?? "multipart/form-data";
  // The headers of the parts add a few hundred bytes to this; the bar is for people.
  const totalBytes = [...form.values()].reduce(
    (sum, part) => sum + (typeof part === "string" ? part.length : part.size),
    0,
  );
  let sentBytes = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      sentBytes += chunk.length;
      onProgress({ sentBytes: Math.min(sentBytes, totalBytes), totalBytes });
      controller.enqueue(chunk);
    },
  });
  const body = encoded.body?.pipeThrough(counter);
  return body === undefined ? { body: form } : { body, contentType };
}

export type FileUpload = {
  name: string;
  totalBytes: number;
  fields: Readonly<Record<string, string>>;
  onProgress?: ((progress: UploadProgress) => void) | undefined;
};

/** A form with one file, which is read while the connection takes it; fields come before the file, so that a wrong one is told at once. */
export function fileUpload(
  source: AsyncIterable<Uint8Array>,
  { name, totalBytes, fields, onProgress }: FileUpload,
): { body: ReadableStream<Uint8Array>; contentType: string } {
  const boundary = `switchyard-${randomUUID()}`;
  async function* form(): AsyncGenerator<Uint8Array> {
    const part = (about: string) => `--${boundary}\r\ncontent-disposition: form-data; ${about}\r\n`;
    for (const [field, value] of Object.entries(fields)) {
      yield Buffer.from(`${part(`name="${field}"`)}\r\n${value}\r\n`);
    }
    const about = part(`name="file"; filename="${escaped(name)}"`);
    yield Buffer.from(`${about}content-type: application/octet-stream\r\n\r\n`);
    let sentBytes = 0;
    for await (const chunk of source) {
      yield chunk;
      sentBytes += chunk.length;
      onProgress?.({ sentBytes, totalBytes });
    }
    yield Buffer.from(`\r\n--${boundary}--\r\n`);
  }
  const body = ReadableStream.from(form()) as ReadableStream<Uint8Array>;
  return { body, contentType: `multipart/form-data; boundary=${boundary}` };
}

/** @see https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data */
function escaped(name: string): string {
  return name.replaceAll('"', "%22").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}
