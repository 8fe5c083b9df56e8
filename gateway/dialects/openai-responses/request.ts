/** Reads `POST /v1/responses`, with the conversation that it continues. */
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { History, ResponseStore } from "../../responses/store.ts";
import type { Call } from "../dialect.ts";
import { readCanonicalResponses } from "./canonical.ts";
import { openAiResponses } from "./index.ts";
import { responsesBody } from "./schema.ts";
import { textsOfResponse } from "./texts.ts";

export type ReadResponsesOptions = {
  limits: BodyLimits;
  projectId: string;
  /** Absent where this gateway keeps no responses. */
  store: ResponseStore | undefined;
};

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, what the schema finds,
 *   naming the field, and `previous_response_not_found`
 */
export async function readResponsesCall(
  request: Request,
  { limits, projectId, store }: ReadResponsesOptions,
): Promise<Call> {
  const json = await readJsonBody(request, limits);
  const { previous_response_id: previousId } = parseOrThrow(responsesBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  const body = json.value as Readonly<Record<string, unknown>>;
  for (const field of ["conversation", "background", "prompt"]) {
    if (body[field] != null && body[field] !== false) throw unsupported(field);
  }
  if (previousId != null && !store) throw unsupported("previous_response_id");
  const history = previousId == null ? undefined : await store?.history(projectId, previousId);
  return new ResponsesCall(json, { history, projectId, store });
}

class ResponsesCall implements Call {
  readonly dialect = openAiResponses;
  readonly wantsUsage = true;
  readonly choices = 1;
  readonly model: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly source?: { value: Readonly<Record<string, unknown>>; text: string };
  readonly bodyBytes: number;
  readonly stream: boolean;
  readonly outputTokensMax: number | undefined;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly #history: History | undefined;
  readonly #projectId: string;
  readonly #store: ResponseStore | undefined;
  readonly #previousId: string | undefined;
  /** Whether the response is, or will be, there to be asked for. */
  #isKept: boolean;
  #canonical: CanonicalRequest | undefined;
  #texts: ReturnType<typeof textsOfResponse> | undefined;

  constructor(
    json: JsonBody,
    about: { history: History | undefined } & Pick<ReadResponsesOptions, "projectId" | "store">,
  ) {
    const read = responsesBody.parse(json.value);
    this.body = json.value as Readonly<Record<string, unknown>>;
    this.model = read.model;
    if (mayLoseNumbers(json.text)) this.source = { value: this.body, text: json.text };
    this.#history = about.history;
    this.#projectId = about.projectId;
    this.#store = about.store;
    this.#previousId = read.previous_response_id ?? undefined;
    this.#isKept = about.store !== undefined && this.body.store !== false;
    this.bodyBytes = json.bytes + (about.history?.bytes ?? 0);
    this.stream = read.stream === true;
    this.outputTokensMax = read.max_output_tokens ?? undefined;
    this.metadata = read.metadata ?? undefined;
  }

  images(): number {
    return this.texts().images;
  }

  texts() {
    this.#texts ??= textsOfResponse(this.body, this.#history?.items);
    return this.#texts;
  }

  canonical(): CanonicalRequest {
    this.#canonical ??= readCanonicalResponses(this.body, this.#history?.items);
    return this.#canonical;
  }

  /** The gateway remembers, so a provider is told all of the conversation, and no ids that it never gave. */
  passed(): Readonly<Record<string, unknown>> | undefined {
    if (!this.#history) return undefined;
    const { previous_response_id: _previous, input, ...body } = this.body;
    const items = typeof input === "string" ? [{ role: "user", content: input }] : (input ?? []);
    return { ...body, input: [...withoutIds(this.#history.items), ...(items as unknown[])] };
  }

  echo(): Readonly<Record<string, unknown>> {
    return { ...this.body, store: this.#isKept };
  }

  async keep(whole: unknown): Promise<void> {
    if (!this.#isKept) return;
    const response = whole as Record<string, unknown> & { id: string };
    try {
      const input = inputItems(this.body.input, response.id);
      await this.#store?.keep(this.#projectId, {
        id: response.id,
        previousId: this.#previousId,
        response,
        input,
      });
    } catch (error) {
      // The answer is here and paid for; only that it can be continued is lost, and is told.
      this.#isKept = false;
      throw error;
    }
  }
}

/** Thoughts without their encryption mean nothing to a provider that does not remember them. */
function withoutIds(items: readonly unknown[]): unknown[] {
  return (items as Record<string, unknown>[]).flatMap(({ id: _id, status: _status, ...item }) =>
    item.type === "reasoning" && item.encrypted_content == null ? [] : [item],
  );
}

/** Items need ids to be listed by. */
function inputItems(input: unknown, responseId: string): Record<string, unknown>[] {
  const items =
    typeof input === "string"
      ? [{ type: "message", role: "user", content: [{ type: "input_text", text: input }] }]
      : ((input ?? []) as Record<string, unknown>[]);
  const suffix = responseId.slice(responseId.indexOf("_") + 1);
  return items.map((item, index) => ({
    id: `${item.type === undefined || item.type === "message" ? "msg" : "item"}_${suffix}_in${index}`,
    type: "message",
    ...item,
  }));
}

function unsupported(param: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is not supported by this gateway.`,
    { param },
  );
}
