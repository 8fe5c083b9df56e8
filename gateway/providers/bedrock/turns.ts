/** Canonical turns as Converse's messages: users and assistants in turn, which is the only order that it takes. */
import { createHash } from "node:crypto";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CacheHint,
  FilePart,
  InputPart,
  MediaSource,
  OutputPart,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import { openSeal } from "../../canonical/seal.ts";

export type Block = Record<string, unknown>;
export type Message = { role: "user" | "assistant"; content: Block[] };

/** Neighbours of one role become one message, and in a user's the results of tools come first. */
export function writeTurns(turns: readonly Turn[], dropped: Set<string>): Message[] {
  const messages: Message[] = [];
  const documents = new DocumentNames();
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = writeTurn(turn, { documents, dropped });
    if (content.length === 0) continue;
    const last = messages.at(-1);
    if (last?.role === role) for (const block of content) last.content.push(block);
    else messages.push({ role, content });
  }
  for (const message of messages) arrange(message);
  if (messages[0]?.role !== "user") {
    messages.unshift({ role: "user", content: [{ text: "(begin)" }] });
  }
  return messages;
}

/** A mark after the block that it is about. */
export function cachePoint({ cache }: { cache?: CacheHint }): Block[] {
  return cache ? [{ cachePoint: { type: "default", ...cache } }] : [];
}

type Context = { documents: DocumentNames; dropped: Set<string> };

function writeTurn(turn: Turn, context: Context): Block[] {
  switch (turn.role) {
    case "system":
    case "user":
      return turn.parts.flatMap((part) => writeInput(part, context));
    case "assistant":
      return turn.parts.flatMap((part) => writeOutput(part, context));
    case "tool":
      return writeResult(turn.result, context);
    default:
      return turn satisfies never;
  }
}

/** Results follow their calls at once, and a document is refused without a word about it. */
function arrange(message: Message): void {
  if (message.role !== "user") return;
  const isResult = (block: Block) => "toolResult" in block;
  const others = message.content.filter((block) => !isResult(block));
  const isWordless =
    others.some((block) => "document" in block) && !others.some((b) => "text" in b);
  message.content = [
    ...message.content.filter(isResult),
    ...(isWordless ? [{ text: "(see the document)" }] : []),
    ...others,
  ];
}

/** Blank texts are refused there, and say nothing. */
function writeInput(part: InputPart, { documents, dropped }: Context): Block[] {
  switch (part.type) {
    case "text":
      return part.text.trim() === "" ? [] : [{ text: part.text }, ...cachePoint(part)];
    case "image": {
      if (part.detail) dropped.add("image.detail");
      const { mediaType, data } = dataOf(part.source, "image");
      const format = mediaType.replace(/^image\/(jpg$)?/, (_, jpg) => (jpg ? "jpeg" : ""));
      return [{ image: { format, source: { bytes: data } } }, ...cachePoint(part)];
    }
    case "file": {
      const { mediaType, data } = dataOf(part.source, "file");
      const format = documentFormats.get(mediaType.split(";")[0] ?? "") ?? "txt";
      const name = documents.next(part);
      return [{ document: { format, name, source: { bytes: data } } }, ...cachePoint(part)];
    }
    case "audio":
      return [{ audio: { format: part.format, source: { bytes: part.base64 } } }];
    default:
      return part satisfies never;
  }
}

/** What lies elsewhere would have to be fetched first; Bedrock itself reads S3 alone. */
function dataOf(source: MediaSource, what: "image" | "file") {
  if (source.type === "base64") return source;
  throw new HubError(
    "unsupported_parameter",
    `Unsupported parameter: the ${what} by ${source.type === "url" ? "URL" : "id"} is not supported with this model; send its data.`,
    { param: "messages" },
  );
}

function writeOutput(part: OutputPart, context: Context): Block[] {
  switch (part.type) {
    case "text":
      return writeInput(part, context);
    case "refusal":
      return writeInput({ type: "text", text: part.text }, context);
    case "reasoning": {
      const redactedContent = openSeal("bedrock", part.encrypted);
      if (redactedContent !== undefined) return [{ reasoningContent: { redactedContent } }];
      const signature = openSeal("bedrock", part.signature);
      if (signature !== undefined) {
        return [{ reasoningContent: { reasoningText: { text: part.text, signature } } }];
      }
      context.dropped.add("messages.reasoning");
      return [];
    }
    case "tool_call": {
      const input = part.custom ? { input: part.arguments } : toObject(part.arguments);
      const toolUse = { toolUseId: toToolUseId(part.id), name: part.name, input };
      return [{ toolUse }, ...cachePoint(part)];
    }
    default:
      return part satisfies never;
  }
}

function writeResult(result: ToolResult, context: Context): Block[] {
  const content = result.parts
    .flatMap((part) => writeInput(part, context))
    .filter((block) => !("cachePoint" in block));
  const toolResult = {
    toolUseId: toToolUseId(result.callId),
    content: content.length > 0 ? content : [{ text: "(nothing)" }],
    ...(result.isError && { status: "error" }),
  };
  return [{ toolResult }, ...cachePoint(result)];
}

/** An input has to be an object, whatever a model once wrote. */
function toObject(text: string): object {
  if (text.trim() === "") return {};
  try {
    const input: unknown = JSON.parse(text);
    if (typeof input === "object" && input !== null && !Array.isArray(input)) return input;
  } catch {
    // It is told below as it is.
  }
  return { rawInvalidInput: text };
}

/** Ids there are at most 64 letters, digits, `_` and `-`. Another's id is stood for by its hash. */
function toToolUseId(id: string): string {
  if (/^[\w-]{1,64}$/.test(id)) return id;
  return `call_${createHash("sha256").update(id).digest("hex").slice(0, 32)}`;
}

/** Names of documents are all different, and of few characters. */
class DocumentNames {
  #count = 0;

  next({ name }: FilePart): string {
    this.#count++;
    const plain = (name ?? "document")
      .replace(/[^A-Za-z0-9()[\]-]+/g, " ")
      .trim()
      .slice(0, 100);
    return `${plain || "document"} ${this.#count}`;
  }
}

const documentFormats: ReadonlyMap<string, string> = new Map([
  ["application/pdf", "pdf"],
  ["text/csv", "csv"],
  ["text/html", "html"],
  ["text/markdown", "md"],
  ["application/msword", "doc"],
  ["application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"],
  ["application/vnd.ms-excel", "xls"],
  ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"],
]);
