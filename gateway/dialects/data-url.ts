/** `data:` URLs, in which clients send pictures and files. */
import type { MediaSource } from "../canonical/request.ts";

/** @returns undefined for other URLs, and for data that is not base64 */
export function parseDataUrl(url: string): Extract<MediaSource, { type: "base64" }> | undefined {
  const head = /^data:([\w.+-]+\/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,/i.exec(
    url.slice(0, headMax),
  );
  if (!head) return undefined;
  const mediaType = head[1]?.toLowerCase() ?? "application/octet-stream";
  return { type: "base64", mediaType, data: url.slice(head[0].length) };
}

export function toDataUrl({ mediaType, data }: { mediaType: string; data: string }): string {
  return `data:${mediaType};base64,${data}`;
}

/** What stands before the data is short; the rest need not be looked at. */
const headMax = 256;
