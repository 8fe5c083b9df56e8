/** Content blocks of Anthropic's messages as the parts of canonical turns. */
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type {
  CacheHint,
  Citation,
  FilePart,
  ImagePart,
  OutputPart,
  TextPart,
  ToolResult,
} from "../../canonical/request.ts";
import {
  type AnyBlock,
  type Cached,
  documentBlock,
  imageBlock,
  type SaidBlock,
  type ShownBlock,
  saidBlock,
  searchResultBlock,
  shownBlock,
  textBlock,
  toolResultBlock,
} from "./schema.ts";
import { fromCallSeal, fromClientSeal } from "./seal.ts";

/** What has no place in the canonical form, and does not change what is said; the client is told its names. */
export type Lost = Set<string>;

type ShownPart = TextPart | ImagePart | FilePart;

/** @param at the field, for errors, such as `messages[0].content` */
export function readTexts(content: string | readonly AnyBlock[], at: string): TextPart[] {
  if (typeof content === "string") return [{ type: "text", text: content }];
  return content.map((block, index) => {
    const where = `${at}[${index}]`;
    if (block.type !== "text") throw unsupportedBlock(block, where);
    return toText(parseOrThrow(textBlock, block, `${where}.`));
  });
}

/** A user's blocks: results of tools apart, because they stand in turns of their own. */
export function readUser(
  content: string | readonly AnyBlock[],
  at: string,
  lost: Lost,
): { results: ToolResult[]; parts: ShownPart[] } {
  if (typeof content === "string") return { results: [], parts: [{ type: "text", text: content }] };
  const results: ToolResult[] = [];
  const parts: ShownPart[] = [];
  for (const [index, block] of content.entries()) {
    const where = `${at}[${index}]`;
    if (block.type === "tool_result") results.push(readResult(block, where, lost));
    else for (const part of readShown(block, where, lost)) parts.push(part);
  }
  return { results, parts };
}

/** What the model said. A seal of a call stands in a thinking block before it, see `seal.ts`. */
export function readAssistant(content: string | readonly AnyBlock[], at: string): OutputPart[] {
  if (typeof content === "string") return [{ type: "text", text: content }];
  let seal: string | undefined;
  return content.flatMap((block, index): OutputPart[] => {
    const where = `${at}[${index}]`;
    if (!saidTypes.has(block.type)) throw unsupportedBlock(block, where);
    const said = parseOrThrow(saidBlock, block, `${where}.`);
    const callSeal = callSealOf(said);
    if (callSeal !== undefined) {
      seal = callSeal;
      return [];
    }
    const part = toOutputPart(said);
    if (part.type !== "tool_call" || seal === undefined) return [part];
    const sealed = { ...part, signature: seal };
    seal = undefined;
    return [sealed];
  });
}

export function withCache({ cache_control }: Cached): { cache?: CacheHint } {
  if (!cache_control) return {};
  return { cache: cache_control.ttl ? { ttl: cache_control.ttl } : {} };
}

function readResult(block: AnyBlock, at: string, lost: Lost): ToolResult {
  const { tool_use_id, content, is_error, ...rest } = parseOrThrow(
    toolResultBlock,
    block,
    `${at}.`,
  );
  const parts: ShownPart[] =
    typeof content === "string"
      ? [{ type: "text", text: content }]
      : (content ?? []).flatMap((one, index) => readShown(one, `${at}.content[${index}]`, lost));
  return { callId: tool_use_id, parts, ...(is_error && { isError: true }), ...withCache(rest) };
}

function readShown(block: AnyBlock, at: string, lost: Lost): ShownPart[] {
  if (!shownTypes.has(block.type)) throw unsupportedBlock(block, at);
  return toShownParts(parseOrThrow(shownBlock, block, `${at}.`), lost);
}

function toShownParts(block: ShownBlock, lost: Lost): ShownPart[] {
  switch (block.type) {
    case "text":
      return [toText(block)];
    case "image":
      return [{ type: "image", source: toSource(block.source), ...withCache(block) }];
    case "document":
      return toDocument(block, lost);
    case "search_result": {
      const text = [block.title, block.source, ...block.content.map((one) => one.text)].join("\n");
      return [{ type: "text", text, ...withCache(block) }];
    }
    default:
      return block satisfies never;
  }
}

function toDocument(block: Extract<ShownBlock, { type: "document" }>, lost: Lost): ShownPart[] {
  const { source, title, context, citations } = block;
  if (citations?.enabled) lost.add("messages.citations");
  const before: TextPart[] = context ? [{ type: "text", text: context }] : [];
  const about = { ...(title && { name: title }), ...withCache(block) };
  switch (source.type) {
    case "text": {
      const data = Buffer.from(source.data).toString("base64");
      const file = { type: "base64", mediaType: "text/plain", data } as const;
      return [...before, { type: "file", source: file, ...about }];
    }
    case "content": {
      const { content } = source;
      const inner: ShownPart[] =
        typeof content === "string"
          ? [{ type: "text", text: content }]
          : content.flatMap((one) => toShownParts(one, lost));
      const heading: TextPart[] = title ? [{ type: "text", text: title }] : [];
      return [...before, ...heading, ...inner];
    }
    default:
      return [...before, { type: "file", source: toSource(source), ...about }];
  }
}

type Source = { type: string; url?: string; file_id?: string; media_type?: string; data?: string };

function toSource({ url, file_id, media_type = "", data = "" }: Source): ImagePart["source"] {
  if (url !== undefined) return { type: "url", url };
  if (file_id !== undefined) return { type: "file_id", id: file_id };
  return { type: "base64", mediaType: media_type.toLowerCase(), data };
}

function callSealOf(said: SaidBlock): string | undefined {
  if (said.type !== "thinking" || said.thinking !== "") return undefined;
  return fromCallSeal(said.signature);
}

function toOutputPart(said: SaidBlock): OutputPart {
  switch (said.type) {
    case "text":
      return toText(said);
    case "thinking": {
      const { thinking, signature } = said;
      const seal = signature === "" ? {} : { signature: fromClientSeal(signature) };
      return { type: "reasoning", text: thinking, ...seal };
    }
    case "redacted_thinking":
      return { type: "reasoning", text: "", encrypted: fromClientSeal(said.data) };
    case "tool_use": {
      const { id, name, input } = said;
      const text = JSON.stringify(input ?? {});
      return { type: "tool_call", id, name, arguments: text, ...withCache(said) };
    }
    default:
      return said satisfies never;
  }
}

function toText(block: ShownBlock & { type: "text" }): TextPart {
  const citations = block.citations?.map(toCitation) ?? [];
  return {
    type: "text",
    text: block.text,
    ...withCache(block),
    ...(citations.length > 0 && { citations }),
  };
}

/** Its places count in the source and not in the answer, so they stay in `source`. */
function toCitation(source: { [field: string]: unknown }): Citation {
  const { url, title = source.document_title, cited_text } = source;
  return {
    ...(typeof url === "string" && { url }),
    ...(typeof title === "string" && { title }),
    ...(typeof cited_text === "string" && { quote: cited_text }),
    source,
  };
}

/** Blocks of tools that Anthropic runs itself, and whatever comes after these lines were written. */
function unsupportedBlock({ type }: AnyBlock, at: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${at}' is a block of type '${type.slice(0, 100)}', which this model's provider does not take.`,
    { param: at },
  );
}

const shownTypes: ReadonlySet<string> = new Set(
  [textBlock, imageBlock, documentBlock, searchResultBlock].map(({ shape }) => shape.type.value),
);
const saidTypes: ReadonlySet<string> = new Set(
  saidBlock.options.map(({ shape }) => shape.type.value),
);
