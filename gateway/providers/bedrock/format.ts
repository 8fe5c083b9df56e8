/** AWS Bedrock's Converse, as upstreams speak it. */
import type { Format, PassingFormat } from "../format.ts";
import { writeConverseBody } from "./body.ts";
import { ConverseReader, readConverseEvents } from "./reader.ts";
import { parseConverseAnswer, readConverseAnswer } from "./response.ts";
import { ConverseStream } from "./stream.ts";

export const converseFormat: Format & PassingFormat = {
  name: "bedrock-converse",
  streamType: /^application\/vnd\.amazon\.eventstream\b/i,
  writeBody: writeConverseBody,
  readAnswer: (bytes) => readConverseEvents(parseConverseAnswer(bytes)),
  openReader: (limits) => new ConverseReader(limits),
  readPassing: readConverseAnswer,
  openPassing: (limits) => new ConverseStream(limits),
};
