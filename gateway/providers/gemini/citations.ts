/** What Gemini's answers rest on: its searches' findings, and passages that it recited. */
import type { Citation } from "../../canonical/request.ts";
import type { GeminiCandidate } from "./schema.ts";

/**
 * @param text the candidate's, so far: Gemini counts in bytes of UTF-8, and we in units of UTF-16
 */
export function readCitations(
  { groundingMetadata, citationMetadata }: GeminiCandidate,
  text: string,
): Citation[] {
  const chunks = groundingMetadata?.groundingChunks ?? [];
  const supports = groundingMetadata?.groundingSupports ?? [];
  const at = bytesToUnits(text);
  const grounded = supports.flatMap((support): Citation[] =>
    (support.groundingChunkIndices ?? []).map((index) => ({
      ...toSource(chunks[index]),
      ...(support.segment?.text && { quote: support.segment.text }),
      // The first byte is left out, as Google leaves out what is zero.
      ...(support.segment?.endIndex != null && {
        start: at(support.segment.startIndex ?? 0),
        end: at(support.segment.endIndex),
      }),
      source: support,
    })),
  );
  const unused = supports.length > 0 ? [] : chunks.map((chunk) => toSource(chunk));
  const recited = (citationMetadata?.citations ?? []).map(
    ({ startIndex, endIndex, uri, title }): Citation => ({
      ...(uri && { url: uri }),
      ...(title && { title }),
      ...(endIndex != null && { start: at(startIndex ?? 0), end: at(endIndex) }),
    }),
  );
  return [...grounded, ...unused, ...recited];
}

type Chunk = NonNullable<
  NonNullable<GeminiCandidate["groundingMetadata"]>["groundingChunks"]
>[number];

function toSource(chunk: Chunk | undefined): Citation {
  const { uri, title } = chunk?.web ?? chunk?.retrievedContext ?? chunk?.maps ?? {};
  return { ...(uri && { url: uri }), ...(title && { title }) };
}

function bytesToUnits(text: string): (bytes: number) => number {
  let utf8: Buffer | undefined;
  return (bytes) => {
    utf8 ??= Buffer.from(text);
    return utf8.subarray(0, bytes).toString().length;
  };
}
