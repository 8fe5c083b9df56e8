/** OpenAI's Responses API, as clients speak it. */
import { type HubError, toErrorBody } from "../../../sdk/protocol/errors.ts";
import { formatSse, sseKeepAlive } from "../../../sdk/protocol/sse.ts";
import { eventsOf } from "../../canonical/answer.ts";
import type { Dialect, PassedStream } from "../dialect.ts";
import { toErrorFields, toResponse } from "./answer.ts";
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
  endOfStream: (error, passed) => error && toFailure(error, passed),
  writeError: (error) => toErrorBody(error),
  retell: {
    answer: retellAnswer,
    stream: (stream, facts, limits) => new RetoldStream(stream, facts, limits),
  },
};

/** The error, and the response that failed by it, numbered on from what has passed. */
function toFailure(error: HubError, { head, soFar }: PassedStream): Uint8Array {
  const { next = 0, response = {} } = soFar ?? {};
  const failed = toResponse(head, head.model, { status: "failed", output: [], error });
  const { status, error: why } = failed;
  const events = [
    { type: "error", sequence_number: next, ...toErrorFields(error) },
    {
      type: "response.failed",
      sequence_number: next + 1,
      response: { ...failed, ...response, status, error: why },
    },
  ];
  return Buffer.from(events.map((event) => formatSse(JSON.stringify(event), event.type)).join(""));
}
