/** An upload that tells how far it has come. */

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
