/** Reads `POST /v1/responses`, with the conversation that it continues. */
import type { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { toListedItem } from "../../conversations/items.ts";
import type { ConversationStore } from "../../conversations/store.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers, writeJson } from "../../http/json-text.ts";
import { metadata } from "../../kept/metadata.ts";
import { type Recollection, recollectionOf } from "../../responses/recollection.ts";
import {
  type History,
  type Item,
  type KeptResponse,
  noSuchPrevious,
  type ResponseStore,
  type Turn,
} from "../../responses/store.ts";
import type { AnswerHead, BackgroundAnswer, Call } from "../dialect.ts";
import { toConversation, toResponse, toResponseId } from "./answer.ts";
import { readCanonicalResponses } from "./canonical.ts";
import { askForSummary, expandCompactions } from "./compaction.ts";
import { openAiResponses } from "./index.ts";
import { compactBody, responsesBody } from "./schema.ts";
import { textsOfResponse } from "./texts.ts";

export type ReadResponsesOptions = {
  limits: BodyLimits;
  projectId: string;
  /** Absent where this gateway keeps nothing. */
  store: ResponseStore | undefined;
  conversations: ConversationStore | undefined;
};

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, what the schema finds,
 *   naming the field, `previous_response_not_found`, and `not_found` for a conversation
 */
export async function readResponsesCall(
  request: Request,
  options: ReadResponsesOptions,
): Promise<Call> {
  const { limits, projectId, store, conversations } = options;
  const json = withoutCompactions(await readJsonBody(request, limits));
  const read = parseOrThrow(responsesBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  const { previous_response_id: previousId, background } = read;
  const conversationId = toConversation(read.conversation)?.id;
  const body = json.value as Readonly<Record<string, unknown>>;
  if (body.prompt != null) throw unsupported("prompt");
  const recollection = recollectionOf(request);
  const remembered = previousId != null ? recollection?.history(previousId) : undefined;
  if (!store || !conversations) {
    if (recollection && previousId != null && !remembered) throw noSuchPrevious(previousId);
    const kept = {
      previous_response_id: remembered ? null : previousId,
      conversation: conversationId,
    };
    for (const [field, value] of Object.entries(kept)) if (value != null) throw unsupported(field);
    if (background) throw unsupported("background");
  }
  if (previousId != null && conversationId !== undefined) throw bothConversations();
  if (background && read.store === false) throw backgroundUnstored();
  if (read.metadata) parseOrThrow(metadata, read.metadata, "metadata.");
  const history =
    previousId != null
      ? (remembered ?? (await store?.history(projectId, previousId)))
      : conversationId !== undefined
        ? await conversations?.history(projectId, conversationId)
        : undefined;
  return new ResponsesCall(json, read, { history, projectId, store, recollection });
}

/**
 * Reads `POST /v1/responses/compact` as what the model is asked: to sum up what is before it.
 * @throws HubError as `readResponsesCall`
 */
export async function readCompactCall(
  request: Request,
  { limits, projectId, store }: ReadResponsesOptions,
): Promise<Call> {
  const json = await readJsonBody(request, limits);
  const { model, input, instructions, ...read } = parseOrThrow(compactBody, json.value);
  refuseDeeper(json, limits.nestingMax);
  const { previous_response_id: previousId, prompt_cache_key } = read;
  if (previousId != null && !store) throw unsupported("previous_response_id");
  const history = previousId == null ? undefined : await store?.history(projectId, previousId);
  const items = expandCompactions([...(history?.items ?? []), ...listOf(input)]);
  if (items.length === 0) throw nothingToCompact();
  const value = {
    model,
    input: askForSummary(withoutIds(items)),
    ...(instructions != null && { instructions }),
    ...(prompt_cache_key != null && { prompt_cache_key }),
    store: false,
  };
  const asked = { value, text: "", bytes: json.bytes + (history?.bytes ?? 0) };
  const about = { history: undefined, projectId, store: undefined, recollection: undefined };
  // Nothing else of it is read; what is summed up may be longer than what one request may bring.
  return new ResponsesCall(asked, { model, store: false }, about);
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
  readonly background: ((head: AnswerHead) => BackgroundAnswer) | undefined;
  readonly #history: History | undefined;
  readonly #projectId: string;
  readonly #store: ResponseStore | undefined;
  readonly #recollection: Recollection | undefined;
  readonly #previousId: string | undefined;
  readonly #conversationId: string | undefined;
  /** Whether the response is, or will be, there to be asked for, and the conversation goes on with it. */
  #isKept: boolean;
  #isAdded: boolean;
  #canonical: CanonicalRequest | undefined;
  #texts: ReturnType<typeof textsOfResponse> | undefined;

  constructor(
    json: JsonBody,
    read: z.infer<typeof responsesBody>,
    about: {
      history: History | undefined;
      recollection: Recollection | undefined;
    } & Pick<ReadResponsesOptions, "projectId" | "store">,
  ) {
    this.body = json.value as Readonly<Record<string, unknown>>;
    this.model = read.model;
    if (mayLoseNumbers(json.text)) this.source = { value: this.body, text: json.text };
    this.#history = about.history && {
      ...about.history,
      items: expandCompactions(about.history.items),
    };
    this.#projectId = about.projectId;
    this.#store = about.store;
    this.#recollection = about.recollection;
    this.#previousId = read.previous_response_id ?? undefined;
    this.#conversationId = toConversation(read.conversation)?.id;
    this.#isKept = about.store !== undefined && read.store !== false;
    this.#isAdded = this.#conversationId !== undefined;
    this.bodyBytes = json.bytes + (about.history?.bytes ?? 0);
    this.stream = read.stream === true;
    this.outputTokensMax = read.max_output_tokens ?? undefined;
    this.metadata = read.metadata ?? undefined;
    if (read.background) this.background = (head) => this.#inBackground(head);
  }

  images(): number {
    return this.texts().images;
  }

  documents(): number {
    return this.texts().documents;
  }

  texts() {
    this.#texts ??= textsOfResponse(this.body, this.#history?.items);
    return this.#texts;
  }

  canonical(): CanonicalRequest {
    const param = this.#conversationId === undefined ? "previous_response_id" : "conversation";
    const items = this.#history?.items ?? [];
    this.#canonical ??= readCanonicalResponses(this.body, { items, param });
    return this.#canonical;
  }

  /** The gateway remembers, so a provider is told all of the conversation, and no ids that it never gave. */
  passed(): Readonly<Record<string, unknown>> | undefined {
    if (!this.#history && !this.background) return undefined;
    const {
      previous_response_id: _previous,
      conversation: _conversation,
      background: _background,
      input,
      ...body
    } = this.body;
    const items = typeof input === "string" ? [{ role: "user", content: input }] : (input ?? []);
    return { ...body, input: [...withoutIds(this.#history?.items ?? []), ...(items as unknown[])] };
  }

  retold(head: AnswerHead): Readonly<Record<string, unknown>> | undefined {
    const wasKept = !this.#store || this.body.store === false || this.#isKept;
    if (!this.#history && !this.background && wasKept) return undefined;
    return {
      ...(this.background && { id: toResponseId(head), background: true }),
      previous_response_id: this.#previousId ?? null,
      conversation: this.#conversation(),
      store: this.#isKept,
    };
  }

  echo(): Readonly<Record<string, unknown>> {
    return { ...this.body, store: this.#isKept, conversation: this.#conversation() };
  }

  async keep(whole: unknown): Promise<void> {
    const response = whole as KeptResponse["response"] & { id: string };
    if (!this.#isKept) this.#recollection?.remember(response.id, this.#soFar(response));
    if (this.background || (!this.#isKept && !this.#isAdded)) return;
    try {
      const kept = this.#isKept ? this.#toKept(response) : undefined;
      const turn: Turn | undefined =
        this.#conversationId === undefined
          ? undefined
          : { conversationId: this.#conversationId, items: this.#said(response) };
      await this.#store?.keep(this.#projectId, { kept, turn });
    } catch (error) {
      // The answer is here and paid for; only that it can be continued is lost, and is told.
      this.#isKept = false;
      this.#isAdded = false;
      throw error;
    }
  }

  #inBackground(head: AnswerHead): BackgroundAnswer {
    const response = toResponse(head, head.model, { status: "queued", output: [] }) as {
      id: string;
    };
    return {
      kept: this.#toKept(response),
      conversationId: this.#conversationId,
      said: (finished) => this.#said({ ...finished, id: response.id }),
    };
  }

  #toKept(response: KeptResponse["response"] & { id: string }): KeptResponse {
    const input = inputItems(this.body.input, response.id);
    return { id: response.id, previousId: this.#previousId, response, input };
  }

  /** The whole conversation. */
  #soFar(response: KeptResponse["response"] & { id: string }): unknown[] {
    const { input } = this.#toKept(response);
    return [...(this.#history?.items ?? []), ...input, ...listOf(response.output)];
  }

  #said(response: KeptResponse["response"] & { id: string }): Item[] {
    const { output } = response;
    const newId = numberedIds(response.id);
    return [
      ...listOf(this.body.input).map((item) => toListedItem(item, newId)),
      ...(Array.isArray(output) ? (output as Item[]) : []),
    ];
  }

  #conversation(): { id: string } | null {
    return this.#isAdded ? toConversation(this.#conversationId) : null;
  }
}

/** Our own compactions mean something to this gateway alone. */
function withoutCompactions(json: JsonBody): JsonBody {
  const body = json.value as { input?: unknown } | null;
  if (!Array.isArray(body?.input)) return json;
  const input = expandCompactions(body.input);
  if (input === body.input) return json;
  const value = { ...body, input };
  return { ...json, value, text: writeJson(value, { value: body, text: json.text }) };
}

/** Thoughts without their encryption mean nothing to a provider that does not remember them. */
function withoutIds(items: readonly unknown[]): unknown[] {
  return (items as Record<string, unknown>[]).flatMap(({ id: _id, status: _status, ...item }) =>
    item.type === "reasoning" && item.encrypted_content == null ? [] : [item],
  );
}

/** Items need ids to be listed by; those that have one keep it. */
function inputItems(input: unknown, responseId: string): Item[] {
  const newId = numberedIds(responseId);
  return listOf(input).map((item) => {
    const listed = toListedItem(item, newId);
    return typeof item.id === "string" ? { ...listed, id: item.id } : listed;
  });
}

/** Ids of a response's input, after the response's own. */
function numberedIds(responseId: string): (prefix: string) => string {
  const suffix = responseId.slice(responseId.indexOf("_") + 1);
  let count = 0;
  return (prefix) => `${prefix}_${suffix}_in${count++}`;
}

function listOf(input: unknown): Readonly<Record<string, unknown>>[] {
  if (typeof input === "string") return [{ role: "user", content: input }];
  return ((input ?? []) as unknown[]).map((item) =>
    typeof item === "object" && item !== null ? (item as Record<string, unknown>) : {},
  );
}

function unsupported(param: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is not supported by this gateway.`,
    { param },
  );
}

function nothingToCompact(): HubError {
  return new HubError("missing_required_parameter", "Missing required parameter: 'input'.", {
    param: "input",
  });
}

function bothConversations(): HubError {
  return new HubError(
    "invalid_value",
    "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Send one of them.",
    { param: "previous_response_id" },
  );
}

function backgroundUnstored(): HubError {
  return new HubError(
    "invalid_value",
    "A background response is read later, so it has to be stored: leave 'store' out, or set it to true.",
    { param: "background" },
  );
}
