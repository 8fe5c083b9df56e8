/** Google's `generateContent`, as clients speak it. */
import { formatSse, sseKeepAlive } from "../../../sdk/protocol/sse.ts";
import type { Dialect } from "../dialect.ts";
import { writeGeminiAnswer } from "./answer.ts";
import { toGeminiError } from "./errors.ts";
import { ArrayStream, arrayFraming, sseFraming } from "./framing.ts";
import { GeminiWriter } from "./stream.ts";

/** Streams as server-sent events, which `alt=sse` asks for. */
export const gemini: Dialect = {
  format: "gemini",
  streamType: "text/event-stream",
  keepAlive: Buffer.from(sseKeepAlive),
  writeAnswer: writeGeminiAnswer,
  openWriter: (head) => new GeminiWriter(head, sseFraming()),
  endOfStream: (error) => error && Buffer.from(formatSse(JSON.stringify(toGeminiError(error, "")))),
  writeError: toGeminiError,
};

/** Streams as an array of JSON, in which white space says nothing. */
export const geminiArray: Dialect = {
  ...gemini,
  streamType: "application/json; charset=UTF-8",
  keepAlive: Buffer.from("\n"),
  openWriter: (head) => new GeminiWriter(head, arrayFraming()),
  reframe: (stream) => new ArrayStream(stream, (error) => toGeminiError(error, "")),
};
