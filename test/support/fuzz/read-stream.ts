/** Reads a stream as a strict client of its dialect does: every frame whole, and one end, good or bad, and nothing after it. */
import { EventStreamCodec } from "@smithy/eventstream-codec";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { SampleDialect } from "./requests.ts";

/**
 * @param passed whether the upstream's own frames pass as they are: what it spoiled is not ours to mend, but the end is
 * @returns what is wrong, or undefined
 */
export function endOfStream(
  dialect: SampleDialect,
  bytes: Buffer,
  { passed }: { passed: boolean },
): string | undefined {
  if (dialect === "bedrock-converse") return endOfFrames(bytes, passed);
  const parser = new SseParser();
  const events = parser.push(bytes);
  const rest = parser.end();
  if (rest.length > 0) return `it ends in the middle of a frame: ${rest[0]?.data.slice(0, 80)}`;
  const kinds = events.map(({ event, data }) => kindOf(dialect, { event, data, passed }));
  const ends = kinds.filter((kind) => kind === "end" || kind === "error");
  const broken = kinds.indexOf("broken");
  if (broken !== -1 && !passed) return `a frame is no JSON: ${events[broken]?.data.slice(0, 80)}`;
  if (passed) return ends.length > 0 ? undefined : "it has no end";
  if (ends.length !== 1) return `it has ${ends.length} ends`;
  return kinds.at(-1) === ends[0] ? undefined : "something comes after its end";
}

type Kind = "event" | "end" | "error" | "broken";

function kindOf(
  dialect: SampleDialect,
  { event, data, passed }: { event: string | undefined; data: string; passed: boolean },
): Kind {
  if (data === "[DONE]") return "end";
  let json: Fields;
  try {
    json = JSON.parse(data) as Fields;
  } catch {
    return "broken";
  }
  if (typeof json !== "object" || json === null) return "event";
  switch (dialect) {
    case "openai-chat":
    case "openai-completions":
      return json.error ? "error" : "event";
    case "openai-responses":
      // Our own failures are told twice: as an event for one age of clients, then as the response for the other.
      if (json.type === "response.failed" || (passed && json.type === "error")) return "error";
      return /^response\.(completed|incomplete)$/.test(String(json.type)) ? "end" : "event";
    case "anthropic-messages":
      if (json.type === "error" || event === "error") return "error";
      return json.type === "message_stop" ? "end" : "event";
    case "gemini":
      if (json.error) return "error";
      return json.candidates?.some(({ finishReason }) => finishReason) || json.promptFeedback
        ? "end"
        : "event";
    case "bedrock-converse":
      return "event";
    default:
      return dialect satisfies never;
  }
}

type Fields = {
  type?: unknown;
  error?: unknown;
  candidates?: { finishReason?: string }[];
  promptFeedback?: unknown;
};

function endOfFrames(bytes: Buffer, passed: boolean): string | undefined {
  const kinds: Kind[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.length - at < 16 ? 0 : bytes.readUInt32BE(at);
    if (length < 16 || at + length > bytes.length) return "it ends in the middle of a frame";
    const { headers } = codec.decode(bytes.subarray(at, at + length));
    if (headers[":message-type"]?.value === "exception") kinds.push("error");
    else kinds.push(headers[":event-type"]?.value === "messageStop" ? "end" : "event");
    at += length;
  }
  const ends = kinds.filter((kind) => kind !== "event");
  if (passed) return ends.length > 0 ? undefined : "it has no end";
  // The usage comes after the reason to stop.
  const after = kinds.length - 1 - kinds.lastIndexOf(ends[0] ?? "event");
  if (ends.length !== 1) return `it has ${ends.length} ends`;
  return after <= 1 ? undefined : "something comes after its end";
}

const codec = new EventStreamCodec(
  (bytes) => Buffer.from(bytes as Uint8Array).toString(),
  (text) => Buffer.from(text),
);
