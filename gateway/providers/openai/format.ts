/** OpenAI's chat completions, as upstreams speak them. */
import type { Format } from "../format.ts";
import { type ChatBodyOptions, writeChatBody } from "./body.ts";
import { ChatReader, readChatEvents } from "./reader.ts";
import { parseAnswer, readOpenAiAnswer } from "./response.ts";
import { ChatStream } from "./stream.ts";

export function openAiChatFormat(options: ChatBodyOptions): Format {
  return {
    name: "openai-chat",
    streamType: /^text\/event-stream\b/i,
    writeBody: (request) => writeChatBody(request, options),
    readAnswer: (bytes) => readChatEvents(parseAnswer(bytes).json),
    openReader: (limits) => new ChatReader(limits),
    readPassing: readOpenAiAnswer,
    openPassing: (passing) => new ChatStream(passing),
  };
}
