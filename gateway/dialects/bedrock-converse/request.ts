/** Reads `POST /model/{id}/converse` and `/converse-stream`. */
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { Call, CallTexts } from "../dialect.ts";
import { readCanonicalConverse } from "./canonical.ts";
import { bedrockConverse } from "./index.ts";
import { type Block, type ConverseBody, converseBody } from "./schema.ts";

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
  const system = blocksText(read.system ?? []);
  const user = read.messages.findLast(({ role }) => role === "user");
  return {
    system,
    user: blocksText(user?.content ?? []),
    all: [system, ...read.messages.map(({ content }) => blocksText(content))].filter(
      (text) => text !== "",
    ),
    schemas: [read.toolConfig, read.outputConfig]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
  };
}

function blocksText(blocks: readonly Block[]): string {
  return blocks.map(blockText).join("\n");
}

function blockText({ text, toolUse, toolResult, reasoningContent }: Block): string {
  if (toolUse) return JSON.stringify(toolUse.input ?? {});
  if (toolResult) {
    return toolResult.content
      .map((one) => one.text ?? (one.json === undefined ? "" : JSON.stringify(one.json)))
      .join("\n");
  }
  return text ?? reasoningContent?.reasoningText?.text ?? "";
}

function hasPicture({ image, toolResult }: Block): boolean {
  return image != null || (toolResult?.content.some((one) => one.image != null) ?? false);
}
