/** What rules and counts look at in a request of Anthropic's messages, blocks of any type among them. */
import type { CallTexts } from "../dialect.ts";
import { type Reading, readText, together, unread, unreadBytes } from "../reading.ts";
import type { AnyBlock, MessagesRequest } from "./schema.ts";

type Prompt = Pick<MessagesRequest, "messages" | "system" | "tools">;
type Message = Prompt["messages"][number];

export function textsIn({ messages, system, tools }: Prompt, output: unknown): CallTexts {
  const later = messages.filter(({ role }) => role === "system");
  const above = read(system ?? "");
  const instructions = [above, ...later.map(({ content }) => read(content))];
  const said = messages.map(({ content }) => read(content));
  const user = messages.findLast(({ role }) => role === "user");
  return {
    system: instructions.map(({ text }) => text).join("\n"),
    user: user ? saidIn(user.content) : "",
    all: [...(system ? [above] : []), ...said].map(({ text }) => text),
    schemas: [tools, output]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
    unread: () => unreadBytes([above, ...said]),
  };
}

export function imagesIn(messages: readonly Message[]): number {
  return countIn(messages, ({ type }) => type === "image");
}

/** By URL, or by the id of a file that was uploaded before. */
export function documentsIn(messages: readonly Message[]): number {
  return countIn(messages, ({ type, source }) => {
    const where = (source as { type?: unknown } | null | undefined)?.type;
    return type === "document" && (where === "url" || where === "file");
  });
}

function countIn(messages: readonly Message[], isOne: (block: AnyBlock) => boolean): number {
  let count = 0;
  for (const { content } of messages) {
    if (typeof content !== "string") count += countBlocks(content, isOne);
  }
  return count;
}

/** Everything that becomes tokens; pictures, and documents that lie elsewhere, are counted apart. */
function read(content: string | readonly AnyBlock[]): Reading {
  return typeof content === "string" ? readText(content) : together(content.map(readBlock));
}

function readBlock(block: AnyBlock): Reading {
  const { type, content } = block;
  switch (type) {
    case "text":
      return readText(block.text);
    case "image":
      return readText();
    case "thinking":
      return together([readText(block.thinking), unread(block.signature)]);
    case "tool_use":
      return readText(block.name, JSON.stringify(block.input ?? {}));
    case "tool_result":
    case "search_result":
      return together([readText(block.title, block.source), readInner(content)]);
    case "document":
      return together([readText(block.title, block.context), readSource(block.source)]);
    default:
      return unread(block);
  }
}

function readSource(source: unknown): Reading {
  const { type, data, content } = (source ?? {}) as Readonly<Record<string, unknown>>;
  if (type === "text") return readText(data);
  return together([
    unread(data),
    typeof content === "string" ? readText(content) : unread(content),
  ]);
}

function readInner(content: unknown): Reading {
  if (Array.isArray(content)) return read(content.filter(isBlock));
  return typeof content === "string" ? readText(content) : unread(content);
}

/** What a person wrote: results of tools are nobody's words. */
function saidIn(content: Message["content"]): string {
  return read(typeof content === "string" ? content : content.filter(({ type }) => type === "text"))
    .text;
}

function countBlocks(blocks: readonly AnyBlock[], isOne: (block: AnyBlock) => boolean): number {
  let count = 0;
  for (const block of blocks) {
    if (isOne(block)) count++;
    else if (Array.isArray(block.content)) {
      count += countBlocks(block.content.filter(isBlock), isOne);
    }
  }
  return count;
}

function isBlock(value: unknown): value is AnyBlock {
  return typeof value === "object" && value !== null && "type" in value;
}
