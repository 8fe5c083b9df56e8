/** Reads `POST /model/{id}/converse` and `/converse-stream`. */
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { Call, CallTexts } from "../dialect.ts";
import { type Reading, readText, together, unread, unreadBytes } from "../reading.ts";
import { readCanonicalConverse } from "./canonical.ts";
import { bedrockConverse } from "./index.ts";
import { type Block, type ConverseBody, converseBody, type ResultBlock } from "./schema.ts";

/**
 * Model names hold `/`, `:` and `@`, raw or percent-encoded.
 * @returns undefined for any other path
 */
export function parseConversePath(
  pathname: string,
): { model: string; stream: boolean } | undefined {
  let decoded = pathname;
  try {
    decoded = decodeURIComponent(pathname);
  } catch {
    // Then it is as it came.
  }
  const [, model, method] = /^\/model\/(.+)\/(converse|converse-stream)$/.exec(decoded) ?? [];
  return model === undefined ? undefined : { model, stream: method === "converse-stream" };
}

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export async function readConverseCall(
  request: Request,
  { model, stream }: { model: string; stream: boolean },
  limits: BodyLimits,
): Promise<Call> {
  const json = await readJsonBody(request, limits);
  const read = parseOrThrow(converseBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  const body = json.value as Call["body"];
  let canonical: CanonicalRequest | undefined;
  return {
    dialect: bedrockConverse,
    model,
    body,
    ...(mayLoseNumbers(json.text) && { source: { value: body, text: json.text } }),
    bodyBytes: json.bytes,
    stream,
    wantsUsage: true,
    outputTokensMax: read.inferenceConfig?.maxTokens ?? undefined,
    choices: 1,
    metadata: read.requestMetadata ?? undefined,
    images: () => read.messages.flatMap(({ content }) => content).filter(hasPicture).length,
    // Those in S3.
    documents: () =>
      read.messages
        .flatMap(({ content }) => content)
        .filter(({ document: one }) => one && one.source.bytes == null && one.source.text == null)
        .length,
    texts: () => readTexts(read),
    canonical() {
      canonical ??= readCanonicalConverse(read, { body, model, stream });
      return canonical;
    },
  };
}

/** Whatever the blocks are: what passes to Bedrock may hold kinds that nobody else knows. */
function readTexts(read: ConverseBody): CallTexts {
  const system = readBlocks(read.system ?? []);
  const said = read.messages.map(({ content }) => readBlocks(content));
  const user = read.messages.findLast(({ role }) => role === "user");
  return {
    system: system.text,
    user: readBlocks(user?.content ?? []).text,
    all: [system, ...said].map(({ text }) => text).filter((text) => text !== ""),
    schemas: [read.toolConfig, read.outputConfig]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
    unread: () => unreadBytes([system, ...said]),
  };
}

function readBlocks(blocks: readonly Block[]): Reading {
  return together(blocks.map(readBlock));
}

/** Pictures, and documents in S3, are counted apart. */
function readBlock(block: Block): Reading {
  const { text, image: _picture, document, toolUse, toolResult, ...more } = block;
  const { reasoningContent, cachePoint: _mark, ...rest } = more;
  const { reasoningText, redactedContent } = reasoningContent ?? {};
  return together([
    readText(text, reasoningText?.text),
    toolUse ? readText(toolUse.name, JSON.stringify(toolUse.input ?? {})) : readText(),
    ...(toolResult?.content ?? []).map(readResult),
    readDocument(document),
    unread(reasoningText?.signature, redactedContent, ...Object.values(rest)),
  ]);
}

function readResult({ text, json, image: _picture, document, ...rest }: ResultBlock): Reading {
  const value = json === undefined ? undefined : JSON.stringify(json);
  return together([readText(text, value), readDocument(document), unread(...Object.values(rest))]);
}

function readDocument(document: Block["document"]): Reading {
  const { text, bytes } = document?.source ?? {};
  return together([readText(document?.name, text), unread(bytes)]);
}

function hasPicture({ image, toolResult }: Block): boolean {
  return image != null || (toolResult?.content.some((one) => one.image != null) ?? false);
}
