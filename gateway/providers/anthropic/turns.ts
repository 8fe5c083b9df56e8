/** Canonical turns as messages of users and assistants in turn, which is the only order that Anthropic takes. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  FilePart,
  ImagePart,
  InputPart,
  MediaSource,
  OutputPart,
  ToolCallPart,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import { openSeal } from "../../canonical/seal.ts";
import type { Notes } from "./notes.ts";

type Message = { role: "user" | "assistant"; content: Block[] };
type Block = { type: string; [field: string]: unknown };

/**
 * Neighbours of one role become one message. In a user's, results of tools come first, as each has to follow its call.
 * Later instructions go into a user's turn, because most models take none of their own in between.
 */
export function writeTurns(turns: readonly Turn[], notes: Notes): Message[] {
  const ids = new CallIds();
  const messages: Message[] = [];
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = writeTurn(turn, ids, notes);
    if (content.length === 0) continue;
    const last = messages.at(-1);
    if (last?.role === role) for (const block of content) last.content.push(block);
    else messages.push({ role, content });
  }
  for (const message of messages) if (message.role === "user") resultsFirst(message);
  // The first word is always a user's.
  if (messages[0]?.role !== "user") {
    messages.unshift({ role: "user", content: [{ type: "text", text: "(begin)" }] });
  }
  trimEnd(messages.at(-1));
  return messages;
}

function writeTurn(turn: Turn, ids: CallIds, notes: Notes): Block[] {
  switch (turn.role) {
    case "system":
      notes.drop("messages.system");
      return turn.parts.flatMap((part) => writeInput(part, notes));
    case "user":
      return turn.parts.flatMap((part) => writeInput(part, notes));
    case "assistant":
      return turn.parts.flatMap((part) => writeOutput(part, ids, notes));
    case "tool":
      return [writeResult(turn.result, ids, notes)];
    default:
      return turn satisfies never;
  }
}

function resultsFirst(message: Message): void {
  const isResult = ({ type }: Block) => type === "tool_result";
  message.content = [
    ...message.content.filter(isResult),
    ...message.content.filter((block) => !isResult(block)),
  ];
}

/** What the model is to go on from must not end in blanks. */
function trimEnd(message: Message | undefined): void {
  const last = message?.content.at(-1);
  if (message?.role === "assistant" && last?.type === "text")
    last.text = String(last.text).trimEnd();
}

/** Empty texts are refused there, and say nothing. */
function writeInput(part: InputPart, notes: Notes): Block[] {
  switch (part.type) {
    case "text":
      if (part.text.trim() === "") return [];
      return [{ type: "text", text: part.text, ...notes.cacheControl(part) }];
    case "image":
      if (part.detail) notes.drop("messages.detail");
      return [{ type: "image", source: imageSource(part), ...notes.cacheControl(part) }];
    case "file":
      return [writeFile(part, notes)];
    case "audio":
      throw unsupported("Audio is not supported with this model.");
    default:
      return part satisfies never;
  }
}

function imageSource({ source }: ImagePart): object {
  if (source.type === "base64" && !imageTypes.has(source.mediaType)) {
    throw unsupported(
      `Images of type '${source.mediaType.slice(0, 60)}' are not supported with this model; send ${[...imageTypes].join(", ")}.`,
    );
  }
  return writeSource(source);
}

function writeFile(part: FilePart, notes: Notes): Block {
  const { source, name } = part;
  return {
    type: "document",
    source: source.type === "base64" ? documentData(source) : writeSource(source),
    ...(name !== undefined && { title: name }),
    ...notes.cacheControl(part),
  };
}

function documentData(source: Extract<MediaSource, { type: "base64" }>): object {
  if (source.mediaType === "application/pdf") return writeSource(source);
  if (source.mediaType.startsWith("text/")) {
    const data = Buffer.from(source.data, "base64").toString("utf8");
    return { type: "text", media_type: "text/plain", data };
  }
  throw unsupported(
    `Files of type '${source.mediaType.slice(0, 60)}' are not supported with this model; send PDF or text.`,
  );
}

function writeSource(source: MediaSource): object {
  switch (source.type) {
    case "url":
      return { type: "url", url: source.url };
    case "base64":
      return { type: "base64", media_type: source.mediaType, data: source.data };
    case "file_id":
      return { type: "file", file_id: source.id };
    default:
      return source satisfies never;
  }
}

function writeOutput(part: OutputPart, ids: CallIds, notes: Notes): Block[] {
  switch (part.type) {
    case "text":
      return writeInput(part, notes);
    case "refusal":
      return writeInput({ type: "text", text: part.text }, notes);
    case "reasoning": {
      const { text, signature = "", encrypted = "" } = part;
      // It takes back what it sealed itself, and nothing else.
      const data = openSeal("anthropic", encrypted);
      if (data !== undefined) return [{ type: "redacted_thinking", data }];
      const bare = openSeal("anthropic", signature);
      if (bare !== undefined) return [{ type: "thinking", thinking: text, signature: bare }];
      notes.drop("messages.reasoning");
      return [];
    }
    case "tool_call":
      return [writeCall(part, ids, notes)];
    default:
      return part satisfies never;
  }
}

function writeCall(call: ToolCallPart, ids: CallIds, notes: Notes): Block {
  const input = call.custom ? { input: call.arguments } : parseInput(call.arguments);
  return {
    type: "tool_use",
    id: ids.begin(call.id),
    name: call.name,
    input,
    ...notes.cacheControl(call),
  };
}

/** An input has to be an object, whatever a model once wrote. */
function parseInput(text: string): object {
  if (text.trim() === "") return {};
  try {
    const input: unknown = JSON.parse(text);
    if (typeof input === "object" && input !== null && !Array.isArray(input)) return input;
  } catch {
    // It is told below as it is.
  }
  return { rawInvalidInput: text };
}

function writeResult(result: ToolResult, ids: CallIds, notes: Notes): Block {
  const content = result.parts.flatMap((part) => writeInput(part, notes));
  return {
    type: "tool_result",
    tool_use_id: ids.of(result.callId),
    ...(content.length > 0 && { content }),
    ...(result.isError && { is_error: true }),
    ...notes.cacheControl(result),
  };
}

/** Ids there are letters, digits, `_` and `-`, and each stands for one call only. */
class CallIds {
  readonly #written = new Set<string>();
  /** The newest call of each id as the client has it. */
  readonly #byId = new Map<string, string>();

  begin(id: string): string {
    const plain = id.replace(/[^A-Za-z0-9_-]/g, "_") || "call";
    let written = plain;
    for (let next = 2; this.#written.has(written); next++) written = `${plain}_${next}`;
    this.#written.add(written);
    this.#byId.set(id, written);
    return written;
  }

  of(id: string): string {
    return this.#byId.get(id) ?? id;
  }
}

function unsupported(message: string): HubError {
  return new HubError("unsupported_parameter", message, { param: "messages" });
}

const imageTypes: ReadonlySet<string> = new Set([
  "image/jpeg",
  "image/png",
  "image/gif",
  "image/webp",
]);
