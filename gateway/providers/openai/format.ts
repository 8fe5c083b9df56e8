/** OpenAI's formats, as upstreams speak them. */
import type { Format, PassingFormat } from "../format.ts";
import { type ChatBodyOptions, writeChatBody } from "./body.ts";
import { ChatReader, readChatEvents } from "./reader.ts";
import { completionText } from "./relayed-text.ts";
import { parseAnswer, readEmbeddings, readOpenAiAnswer } from "./response.ts";
import { ChatStream } from "./stream.ts";

export function openAiChatFormat(options: ChatBodyOptions): Format & PassingFormat {
  return {
    name: "openai-chat",
    takesFreeText: options.takesFreeText ?? false,
    takes: (body) => options.takesFreeText === true || !hasFreeText(body),
    streamType: /^text\/event-stream\b/i,
    writeBody: (request) => writeChatBody(request, options),
    readAnswer: (bytes) => readChatEvents(parseAnswer(bytes).json),
    openReader: (limits) => new ChatReader(limits),
    readPassing: readOpenAiAnswer,
    openPassing: (passing) => new ChatStream(passing),
  };
}

/** OpenAI's tools of free text, or calls of them, which engines do not know. */
function hasFreeText({ tools, messages }: Readonly<Record<string, unknown>>): boolean {
  const isCustom = (one: unknown) => (one as { type?: unknown } | null)?.type === "custom";
  const callsOf = (one: unknown) => (one as { tool_calls?: unknown } | null)?.tool_calls;
  const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
  return (
    listOf(tools).some(isCustom) ||
    listOf(messages).some((message) => listOf(callsOf(message)).some(isCustom))
  );
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
