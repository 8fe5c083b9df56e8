/** What a text rests on, as OpenAI annotates messages of chats. */
import type { Citation } from "../../canonical/request.ts";

/** @param textLength what is not known to end earlier covers the text so far */
export function writeAnnotation({ url, title, start, end }: Citation, textLength: number): object {
  const url_citation = {
    url: url ?? "",
    title: title ?? "",
    start_index: start ?? 0,
    end_index: end ?? textLength,
  };
  return { type: "url_citation", url_citation };
}
