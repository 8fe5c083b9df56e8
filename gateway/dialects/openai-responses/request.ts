/** Reads `POST /v1/responses`. */
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import { textsOf } from "../canonical-texts.ts";
import type { Call } from "../dialect.ts";
import { readCanonicalResponses } from "./canonical.ts";
import { openAiResponses } from "./index.ts";
import { responsesBody } from "./schema.ts";

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export async function readResponsesCall(
  request: Request,
  limits: { requestBytesMax: number; nestingMax: number },
): Promise<Call> {
  const json = await readJsonBody(request, limits.requestBytesMax);
  const read = parseOrThrow(responsesBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  const body = json.value as Readonly<Record<string, unknown>>;
  let canonical: CanonicalRequest | undefined;
  const toCanonical = () => {
    canonical ??= readCanonicalResponses(body);
    return canonical;
  };
  return {
    dialect: openAiResponses,
    model: read.model,
    body,
    ...(mayLoseNumbers(json.text) && { source: { value: body, text: json.text } }),
    bodyBytes: json.bytes,
    stream: read.stream === true,
    wantsUsage: true,
    outputTokensMax: read.max_output_tokens ?? undefined,
    choices: 1,
    metadata: read.metadata ?? undefined,
    images: () => textsOf(toCanonical()).images,
    texts: () => textsOf(toCanonical()),
    canonical: toCanonical,
  };
}
