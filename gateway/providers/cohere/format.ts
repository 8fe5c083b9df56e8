/** Cohere's chats, as it speaks them itself. Nobody in front does, so none passes. */
import type { Format } from "../format.ts";
import { writeCohereBody } from "./body.ts";
import { CohereReader, readCohereEvents } from "./reader.ts";
import { parseCohereAnswer } from "./response.ts";

export const cohereFormat: Format = {
  name: "cohere-chat",
  streamType: /^text\/event-stream\b/i,
  writeBody: writeCohereBody,
  readAnswer: (bytes) => readCohereEvents(parseCohereAnswer(bytes)),
  openReader: (limits) => new CohereReader(limits),
};
