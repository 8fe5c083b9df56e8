/** OpenAI's Responses API, as OpenAI speaks it. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { Format, PassingAnswer, PassingFormat } from "../format.ts";
import { readOpenAiErrorBody } from "../openai/errors.ts";
import { writeResponsesBody } from "./body.ts";
import { ResponsesReader, readResponseEvents, usageOf } from "./reader.ts";
import { responseObject } from "./schema.ts";
import { ResponsesStream } from "./stream.ts";

export const openAiResponsesFormat: Format & PassingFormat = {
  name: "openai-responses",
  takesFreeText: true,
  streamType: /^text\/event-stream\b/i,
  writeBody: writeResponsesBody,
  readAnswer: (bytes) => readResponseEvents(parse(bytes).response),
  openReader: (limits) => new ResponsesReader(limits),
  readPassing,
  openPassing: (limits) => new ResponsesStream(limits),
};

function readPassing(bytes: Uint8Array): PassingAnswer {
  const { json, response } = parse(bytes);
  const text = { toString: () => JSON.stringify(response.output) };
  return { whole: json, usage: usageOf(response), text };
}

/** @throws HubError `upstream_error`; an answer with status 200 may be an error all the same */
function parse(bytes: Uint8Array) {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"));
  } catch {
    json = undefined;
  }
  const parsed = responseObject.safeParse(json);
  if (parsed.success) return { json, response: parsed.data };
  const told = readOpenAiErrorBody(json)?.message;
  throw new HubError(
    "upstream_error",
    told === undefined
      ? "The upstream's answer is not a response."
      : `The upstream answered with an error: ${told}`,
    { unquoted: "The upstream's answer is not a response." },
  );
}
