/** What rules and counts look at in a request of Anthropic's messages, blocks of any type among them. */
import type { CallTexts } from "../dialect.ts";
import type { AnyBlock, MessagesRequest } from "./schema.ts";

type Prompt = Pick<MessagesRequest, "messages" | "system" | "tools">;
type Message = Prompt["messages"][number];

export function textsIn({ messages, system, tools }: Prompt, output: unknown): CallTexts {
  const later = messages.filter(({ role }) => role === "system");
  const instructions = [textIn(system ?? ""), ...later.map(({ content }) => textIn(content))];
  const user = messages.findLast(({ role }) => role === "user");
  return {
    system: instructions.join("\n"),
    user: user ? saidIn(user.content) : "",
    all: [...(system ? [textIn(system)] : []), ...messages.map(({ content }) => textIn(content))],
    schemas: [tools, output]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
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

/** Everything that becomes tokens: texts, calls and their results. */
function textIn(content: string | readonly AnyBlock[]): string {
  if (typeof content === "string") return content;
  return content
    .map((block) => {
      const { text, thinking, input, content: inner } = block;
      if (typeof text === "string") return text;
      if (typeof thinking === "string") return thinking;
      if (block.type === "tool_use") return `${String(block.name)}${JSON.stringify(input ?? {})}`;
      if (typeof inner === "string") return inner;
      return Array.isArray(inner) ? textIn(inner.filter(isBlock)) : "";
    })
    .join("\n");
}

/** What a person wrote: results of tools are nobody's words. */
function saidIn(content: Message["content"]): string {
  return textIn(
    typeof content === "string" ? content : content.filter(({ type }) => type === "text"),
  );
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
