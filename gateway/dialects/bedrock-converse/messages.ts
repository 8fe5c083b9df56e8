/** Converse's messages as turns of a conversation. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CacheHint,
  FilePart,
  ImagePart,
  InputPart,
  OutputPart,
  TextPart,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import type { Block, ConverseBody, ResultBlock } from "./schema.ts";
import { fromClientSeal } from "./seal.ts";

type Cached = { cache?: CacheHint };

/** @throws HubError naming the block that is wrong, or that has no place in any other dialect */
export function readMessages(messages: ConverseBody["messages"]): Turn[] {
  return messages.flatMap(({ role, content }, index): Turn[] => {
    const at = `messages[${index}].content`;
    if (role === "user") return readUser(content, at);
    const parts: OutputPart[] = [];
    for (const [number, block] of content.entries()) {
      if (block.cachePoint) mark(parts.at(-1), block.cachePoint);
      else for (const part of readOutput(block, `${at}[${number}]`)) parts.push(part);
    }
    return [{ role: "assistant", parts }];
  });
}

/** @throws HubError for blocks that are no text */
export function readInstructions(system: readonly Block[]): TextPart[] {
  const parts: TextPart[] = [];
  for (const [index, block] of system.entries()) {
    if (block.cachePoint) mark(parts.at(-1), block.cachePoint);
    else if (block.text != null) parts.push({ type: "text", text: block.text });
    else throw unsupportedBlock(block, `system[${index}]`);
  }
  return parts;
}

/** Results are turns of their own. */
function readUser(content: readonly Block[], at: string): Turn[] {
  const turns: Turn[] = [];
  for (const [index, block] of content.entries()) {
    const last = turns.at(-1);
    if (block.cachePoint) {
      mark(last?.role === "tool" ? last.result : last?.parts.at(-1), block.cachePoint);
    } else if (block.toolResult) {
      turns.push({ role: "tool", result: readResult(block.toolResult, `${at}[${index}]`) });
    } else {
      const part = readInput(block, `${at}[${index}]`);
      if (last?.role === "user") last.parts.push(part);
      else turns.push({ role: "user", parts: [part] });
    }
  }
  return turns;
}

/** What is before the mark is worth keeping. */
function mark(part: object | undefined, { ttl }: { ttl?: "5m" | "1h" | null | undefined }): void {
  if (part) (part as Cached).cache = ttl == null ? {} : { ttl };
}

function readInput(block: Block, at: string): InputPart {
  if (block.text != null) return { type: "text", text: block.text };
  const audio = block.audio?.source.bytes;
  if (block.audio && audio != null) {
    return { type: "audio", format: block.audio.format, base64: audio };
  }
  const media = readMedia(block);
  if (media) return media;
  throw unsupportedBlock(block, at);
}

/** @returns undefined where the data lies elsewhere, such as in S3 */
function readMedia({
  image,
  document,
}: Pick<ResultBlock, "image" | "document">): ImagePart | FilePart | undefined {
  const picture = image?.source.bytes;
  if (image && picture != null) {
    const mediaType = `image/${image.format}`;
    return { type: "image", source: { type: "base64", mediaType, data: picture } };
  }
  if (!document) return undefined;
  const { source, format, name } = document;
  const data = source.bytes ?? (source.text && Buffer.from(source.text).toString("base64"));
  if (data == null) return undefined;
  const mediaType =
    mediaTypes.get(source.bytes == null ? "txt" : (format ?? "txt")) ?? "text/plain";
  return {
    type: "file",
    source: { type: "base64", mediaType, data },
    ...(name != null && { name }),
  };
}

function readOutput(block: Block, at: string): OutputPart[] {
  const { text, toolUse, reasoningContent, citationsContent } = block;
  if (text != null) return [{ type: "text", text }];
  if (toolUse) {
    const { toolUseId: id, name, input } = toolUse;
    return [{ type: "tool_call", id, name, arguments: JSON.stringify(input ?? {}) }];
  }
  if (reasoningContent) {
    const { reasoningText, redactedContent } = reasoningContent;
    const seal = fromClientSeal({ signature: reasoningText?.signature, redactedContent });
    return [{ type: "reasoning", text: reasoningText?.text ?? "", ...seal }];
  }
  if (citationsContent) {
    const said = (citationsContent.content ?? []).map((one) => one.text ?? "").join("");
    return [{ type: "text", text: said }];
  }
  throw unsupportedBlock(block, at);
}

function readResult(
  { toolUseId, content, status }: NonNullable<Block["toolResult"]>,
  at: string,
): ToolResult {
  const parts = content.map((block, index) => {
    if (block.text != null) return { type: "text" as const, text: block.text };
    if (block.json !== undefined) {
      return { type: "text" as const, text: JSON.stringify(block.json) };
    }
    const media = readMedia(block);
    if (media) return media;
    throw unsupportedBlock(block, `${at}.toolResult.content[${index}]`);
  });
  return { callId: toolUseId, parts, ...(status === "error" && { isError: true }) };
}

function unsupportedBlock(block: object, at: string): HubError {
  const kind = Object.keys(block)[0] ?? "none";
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${at}' is a block of kind '${kind.slice(0, 100)}', or its data is not in it, and this model's provider takes none such.`,
    { param: at },
  );
}

const mediaTypes: ReadonlyMap<string, string> = new Map([
  ["pdf", "application/pdf"],
  ["csv", "text/csv"],
  ["html", "text/html"],
  ["md", "text/markdown"],
  ["txt", "text/plain"],
  ["doc", "application/msword"],
  ["docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
  ["xls", "application/vnd.ms-excel"],
  ["xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"],
]);
