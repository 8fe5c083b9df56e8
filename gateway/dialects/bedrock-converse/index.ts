/** AWS Bedrock's Converse, as clients speak it. */
import type { Dialect } from "../dialect.ts";
import { writeConverseAnswer } from "./answer.ts";
import { toConverseError, toExceptionFrame } from "./errors.ts";
import { ConverseWriter } from "./stream.ts";

export const bedrockConverse: Dialect = {
  format: "bedrock-converse",
  streamType: "application/vnd.amazon.eventstream",
  // Every frame means something.
  keepAlive: undefined,
  writeAnswer: writeConverseAnswer,
  openWriter: (head) => new ConverseWriter(head),
  endOfStream: (error) => error && toExceptionFrame(error),
  writeError: toConverseError,
};
