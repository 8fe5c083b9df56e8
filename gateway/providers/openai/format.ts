/** OpenAI's formats, as upstreams speak them. */
import type { Format, PassingFormat } from "../format.ts";
import { type ChatBodyOptions, writeChatBody } from "./body.ts";
import { ChatReader, readChatEvents } from "./reader.ts";
import { completionText } from "./relayed-text.ts";
import { parseAnswer, readEmbeddings, readOpenAiAnswer } from "./response.ts";
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

/** Texts that go on; chunks differ from a chat's in where the text stands. */
export const openAiCompletions: PassingFormat = {
  name: "openai-completions",
  streamType: /^text\/event-stream\b/i,
  readPassing: readOpenAiAnswer,
  openPassing: (passing) => new ChatStream({ ...passing, text: completionText }),
};

export const openAiEmbeddings: PassingFormat = {
  name: "openai-embeddings",
  // There are no streams of vectors.
  streamType: /^$/,
  readPassing: readEmbeddings,
  openPassing: (passing) => new ChatStream(passing),
};
