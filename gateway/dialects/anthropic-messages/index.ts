/** Anthropic's messages, as clients speak them. */
import type { Dialect } from "../dialect.ts";
import { writeMessage } from "./answer.ts";
import { anthropicError, anthropicStatus } from "./errors.ts";
import { addAnthropicHeaders } from "./headers.ts";
import { errorFrame, MessageWriter, messageStop, ping } from "./stream.ts";

export const anthropicMessages: Dialect = {
  format: "anthropic-messages",
  streamType: "text/event-stream; charset=utf-8",
  keepAlive: Buffer.from(ping),
  writeAnswer: writeMessage,
  openWriter: (head) => new MessageWriter(head),
  endOfStream: (error) => Buffer.from(error ? errorFrame(error) : messageStop),
  writeError: anthropicError,
  errorStatus: anthropicStatus,
  addHeaders: addAnthropicHeaders,
};
