/** OpenAI's chat completions, as clients speak them. */
import { toErrorBody } from "../../../sdk/protocol/errors.ts";
import { formatSse, sseDone, sseKeepAlive } from "../../../sdk/protocol/sse.ts";
import type { Dialect } from "../dialect.ts";
import { writeChatAnswer } from "./answer.ts";
import { ChatWriter } from "./stream.ts";

export const openAiChat: Dialect = {
  format: "openai-chat",
  streamType: "text/event-stream; charset=utf-8",
  keepAlive: Buffer.from(sseKeepAlive),
  writeAnswer: writeChatAnswer,
  openWriter: (head) => new ChatWriter(head),
  endOfStream: (error) =>
    Buffer.from(error ? formatSse(JSON.stringify(toErrorBody(error))) : sseDone),
  writeError: (error) => toErrorBody(error),
};
