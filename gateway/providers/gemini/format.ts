/** Google's `generateContent`, as upstreams speak it. */
import type { Format, PassingFormat } from "../format.ts";
import { writeGeminiBody } from "./body.ts";
import { GeminiReader, readGeminiEvents } from "./reader.ts";
import { parseGeminiAnswer, readGeminiAnswer } from "./response.ts";
import { GeminiStream } from "./stream.ts";

export const geminiFormat: Format & PassingFormat = {
  name: "gemini",
  streamType: /^text\/event-stream\b/i,
  writeBody: writeGeminiBody,
  readAnswer: (bytes) => readGeminiEvents(parseGeminiAnswer(bytes)),
  openReader: (limits) => new GeminiReader(limits),
  readPassing: readGeminiAnswer,
  openPassing: (limits) => new GeminiStream(limits),
};
