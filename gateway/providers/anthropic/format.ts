/** Anthropic's messages, as it speaks them itself. */
import type { Format, PassingFormat } from "../format.ts";
import { writeMessagesBody } from "./body.ts";
import { MessageReader, readMessageEvents } from "./reader.ts";
import { parseMessage, readPassingMessage } from "./response.ts";
import { MessageStream } from "./stream.ts";

export const anthropicFormat: Format & PassingFormat = {
  name: "anthropic-messages",
  streamType: /^text\/event-stream\b/i,
  writeBody: writeMessagesBody,
  readAnswer: (bytes) => readMessageEvents(parseMessage(bytes)),
  openReader: (limits) => new MessageReader(limits),
  readPassing: readPassingMessage,
  openPassing: (limits) => new MessageStream(limits),
};
