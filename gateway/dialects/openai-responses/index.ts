/** OpenAI's Responses API, as clients speak it. */
import { type HubError, toErrorBody } from "../../../sdk/protocol/errors.ts";
import { formatSse, sseKeepAlive } from "../../../sdk/protocol/sse.ts";
import { eventsOf } from "../../canonical/answer.ts";
import type { Dialect } from "../dialect.ts";
import { RetoldStream, retellAnswer } from "./retell.ts";
import { ResponsesWriter } from "./stream.ts";

export const openAiResponses: Dialect = {
  format: "openai-responses",
  streamType: "text/event-stream; charset=utf-8",
  keepAlive: Buffer.from(sseKeepAlive),
  writeAnswer(answer, head) {
    const writer = new ResponsesWriter(head);
    for (const event of eventsOf(answer)) writer.write(event);
    return writer.whole();
  },
  openWriter: (head) => new ResponsesWriter(head),
  endOfStream: (error) =>
    error && Buffer.from(formatSse(JSON.stringify(errorEvent(error)), "error")),
  writeError: (error) => toErrorBody(error),
  retell: {
    answer: retellAnswer,
    stream: (stream, facts, limits) => new RetoldStream(stream, facts, limits),
  },
};

/** SDKs of one age read the fields here, those of another below `error`. */
function errorEvent(error: HubError): object {
  const { error: told } = toErrorBody(error);
  const { code, message, param } = told;
  return { type: "error", code, message, param, error: told };
}
