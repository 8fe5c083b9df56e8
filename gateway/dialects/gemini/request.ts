/** Reads `generateContent` and `streamGenerateContent`: the body, and what its address says. */
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { Call, CallTexts, Dialect } from "../dialect.ts";
import { type Reading, readText, together, unread, unreadBytes } from "../reading.ts";
import { readCanonicalGemini } from "./canonical.ts";
import { gemini } from "./index.ts";
import {
  type Content,
  countTokensBody,
  type GenerateContentBody,
  generateContentBody,
  type Part,
} from "./schema.ts";

type Asked = { model: string; stream: boolean; dialect: Dialect };

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export async function readGeminiCall(
  request: Request,
  asked: Asked,
  limits: BodyLimits,
): Promise<Call> {
  const json = await readJsonBody(request, limits);
  const read = parseOrThrow(generateContentBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  return toCall(read, json.value as Call["body"], { ...asked, json });
}

/** What would be counted: AI Studio wraps the request that would be sent, or sends its contents alone; Vertex wraps nothing. */
export async function readGeminiCountCall(
  request: Request,
  model: string,
  limits: BodyLimits,
): Promise<Call> {
  const json = await readJsonBody(request, limits);
  const { generateContentRequest } = parseOrThrow(countTokensBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  const body = generateContentRequest ?? (json.value as Call["body"]);
  const prefix = generateContentRequest ? "generateContentRequest." : "";
  const read = parseOrThrow(generateContentBody, body, prefix);
  return toCall(read, body, { model, stream: false, dialect: gemini, json });
}

function toCall(
  read: GenerateContentBody,
  body: Call["body"],
  { model, stream, dialect, json }: Asked & { json: JsonBody },
): Call {
  let canonical: CanonicalRequest | undefined;
  return {
    dialect,
    model,
    body,
    ...(body === json.value &&
      mayLoseNumbers(json.text) && { source: { value: body, text: json.text } }),
    bodyBytes: json.bytes,
    stream,
    wantsUsage: true,
    outputTokensMax: read.generationConfig?.maxOutputTokens ?? undefined,
    choices: read.generationConfig?.candidateCount ?? 1,
    metadata: read.labels ?? undefined,
    images: () =>
      read.contents.flatMap(({ parts }) => parts ?? []).filter((part) => isPicture(part)).length,
    documents: () =>
      read.contents
        .flatMap(({ parts }) => parts ?? [])
        .filter((part) => part.fileData && !isPicture(part)).length,
    texts: () => readTexts(read),
    canonical() {
      canonical ??= readCanonicalGemini(read, { model, stream });
      return canonical;
    },
  };
}

/** Whatever the parts are: what passes to Google may hold kinds that nobody else knows. */
function readTexts(read: GenerateContentBody): CallTexts {
  const system = readContent(read.systemInstruction);
  const said = read.contents.map(readContent);
  const user = read.contents.findLast(({ role }) => role == null || role === "user");
  const { responseSchema, responseJsonSchema } = read.generationConfig ?? {};
  return {
    system: system.text,
    user: readContent(user).text,
    all: [system, ...said].map(({ text }) => text).filter((text) => text !== ""),
    schemas: [read.tools, responseSchema, responseJsonSchema]
      .filter((part) => part != null)
      .map((part) => JSON.stringify(part))
      .join(""),
    unread: () => unreadBytes([system, ...said]),
  };
}

function readContent(content: Content | null | undefined): Reading {
  return together((content?.parts ?? []).map(readPart));
}

/** Pictures, and documents that lie elsewhere, are counted apart. */
function readPart(part: Part): Reading {
  const { text, thought: _thought, inlineData, fileData: _elsewhere, ...more } = part;
  const { functionCall: call, functionResponse: result, ...rest } = more;
  return together([
    readText(text),
    call ? readText(call.name, JSON.stringify(call.args ?? {})) : readText(),
    result ? readText(result.name, JSON.stringify(result.response ?? {})) : readText(),
    unread(result?.parts, isPicture(part) ? undefined : inlineData?.data, ...Object.values(rest)),
  ]);
}

function isPicture({ inlineData, fileData }: Part): boolean {
  const mimeType = inlineData?.mimeType ?? fileData?.mimeType;
  return mimeType?.startsWith("image/") ?? false;
}
