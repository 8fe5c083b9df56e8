/**
 * Emulates AWS Bedrock's Converse and ConverseStream on loopback. It is not AWS: its answers come from a function that
 * the caller passes, and its "tokens" are words. Written from the published wire format (the API reference of
 * bedrock-runtime and the types of @aws-sdk/client-bedrock-runtime 3.1163, read 2026-11-21), signatures and the frames of
 * event streams included, with faults that a model's name asks for: `any-model!cut-3`.
 */
import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { EventStreamCodec } from "@smithy/eventstream-codec";
import { z } from "zod";
import { findFault as findAnyFault } from "./bedrock-rules.ts";
import { type Pieces, words } from "./pieces.ts";

type Fields = Record<string, unknown>;

export type BedrockEmulatedRequest = {
  /** Freed of the fault. */
  model: string;
  stream: boolean;
  body: { messages?: { role: string; content: Fields[] }[]; [field: string]: unknown };
  headers: IncomingMessage["headers"];
};

/** What the model says; usage is counted in words where it is not given. */
export type BedrockEmulatedAnswer = { content: Fields[]; stopReason?: string; usage?: Fields };

export type BedrockEmulatorOptions = {
  answer?: (request: BedrockEmulatedRequest) => string | BedrockEmulatedAnswer;
  /** The only key that is let in as a bearer. */
  apiKey?: string;
  /** Or the only keys whose signatures are let in. */
  keys?: { accessKeyId: string; secretAccessKey: string; region: string };
  /** Whether all fields are looked at, as Bedrock does; else only the order of a conversation. */
  strict?: boolean;
  /** How texts are cut into deltas; by words when absent. */
  pieces?: Pieces;
};

export type BedrockEmulator = {
  baseUrl: string;
  requests: BedrockEmulatedRequest[];
  close(): Promise<void>;
};

export async function startBedrockEmulator(
  options: BedrockEmulatorOptions = {},
): Promise<BedrockEmulator> {
  const requests: BedrockEmulatedRequest[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      serve({ options, requests }, { request, response, text });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { baseUrl: `http://127.0.0.1:${port}`, requests, close: () => close(server) };
}

type State = { options: BedrockEmulatorOptions; requests: BedrockEmulatedRequest[] };
type Exchange = { request: IncomingMessage; response: ServerResponse; text: string };

function serve({ options, requests }: State, { request, response, text }: Exchange): void {
  const [, encoded = "", method] =
    /^\/model\/([^/]+)\/(converse|converse-stream|invoke)$/.exec(request.url ?? "") ?? [];
  if (request.method !== "POST" || method === undefined) {
    sendError(response, 404, "UnknownOperationException", "no such operation");
    return;
  }
  if (!isLetIn(options, request, text)) {
    sendError(response, 403, "AccessDeniedException", "The security token is invalid.");
    return;
  }
  const [model = "", faultText] = decodeURIComponent(encoded).split("!");
  const [name, argument] = faultText?.split("-") ?? [];
  const fault = { name, argument: Number(argument ?? 0) };
  const body = JSON.parse(text) as BedrockEmulatedRequest["body"];
  if (method === "invoke") {
    invoke(response, model, body);
    return;
  }
  const refusal = (options.strict ? findAnyFault : findFault)(body);
  if (refusal !== undefined) {
    sendError(response, 400, "ValidationException", refusal);
    return;
  }
  const asked = { model, stream: method === "converse-stream", body, headers: request.headers };
  requests.push(asked);
  if (fault.name === "status") {
    const [type, message] = errors[fault.argument] ?? ["InternalServerException", "It failed."];
    sendError(response, fault.argument, type, message);
    return;
  }
  const answer = toAnswer(options.answer?.(asked) ?? "Hello! How can I help?", asked);
  if (asked.stream)
    void streamAnswer(response, answer, { ...fault, pieces: options.pieces ?? words });
  else {
    const { content, stopReason, usage } = answer;
    const output = { message: { role: "assistant", content } };
    sendJson(response, 200, { output, stopReason, usage, metrics: { latencyMs: 5 } });
  }
}

/**
 * InvokeModel of models that make embeddings: Titan's take one text, Cohere's several (the bodies by the user guide's pages
 * on both, read 2026-11-22). A text's length and eighths of it are its vector.
 */
function invoke(response: ServerResponse, model: string, body: Fields): void {
  const isTitan = model.includes("titan-embed-text");
  const parsed = (isTitan ? titanBody : cohereBody).safeParse(body);
  if (!parsed.success) {
    sendError(response, 400, "ValidationException", `Malformed input request: ${parsed.error}`);
    return;
  }
  const { data } = parsed;
  const texts = "texts" in data ? data.texts : [data.inputText];
  const dimensions = ("texts" in data ? data.output_dimension : data.dimensions) ?? 4;
  const vectors = texts.map((text) =>
    Array.from({ length: dimensions }, (_, at) => text.length + at / 8),
  );
  const tokens = texts.reduce((sum, text) => sum + text.split(/\s+/).length, 0);
  response.setHeader("x-amzn-bedrock-input-token-count", String(tokens));
  if (isTitan) {
    const [embedding] = vectors;
    const embeddingsByType = { float: embedding };
    sendJson(response, 200, { embedding, embeddingsByType, inputTextTokenCount: tokens });
    return;
  }
  const isByType = "embedding_types" in data && data.embedding_types !== undefined;
  sendJson(response, 200, {
    id: "embedded",
    texts,
    response_type: isByType ? "embeddings_by_type" : "embeddings_floats",
    embeddings: isByType ? { float: vectors } : vectors,
  });
}

const titanBody = z.strictObject({
  inputText: z.string().min(1),
  dimensions: z.literal([256, 512, 1024]).optional(),
  normalize: z.boolean().optional(),
  embeddingTypes: z.array(z.enum(["float", "binary"])).optional(),
});
const cohereBody = z.strictObject({
  texts: z.array(z.string().min(1)).min(1).max(96),
  input_type: z.enum(["search_document", "search_query", "classification", "clustering"]),
  truncate: z.enum(["NONE", "START", "END", "LEFT", "RIGHT"]).optional(),
  embedding_types: z.array(z.enum(["float"])).optional(),
  output_dimension: z.int().positive().optional(),
});

/** What the service checks of a conversation before it asks a model. */
function findFault({
  messages = [],
  toolConfig,
}: BedrockEmulatedRequest["body"]): string | undefined {
  const blocks = messages.flatMap(({ content }) => content);
  if (messages[0]?.role !== "user") return "A conversation must start with a user message.";
  if (messages.some(({ role }, at) => role === messages[at + 1]?.role)) {
    return "A conversation must alternate between user and assistant roles.";
  }
  if (blocks.some(({ text }) => typeof text === "string" && text.trim() === "")) {
    return "The text field in the ContentBlock object is blank.";
  }
  if (!toolConfig && blocks.some((block) => "toolUse" in block || "toolResult" in block)) {
    return "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
  }
  return undefined;
}

function isLetIn(options: BedrockEmulatorOptions, request: IncomingMessage, body: string): boolean {
  const { apiKey, keys } = options;
  const given = request.headers.authorization ?? "";
  if (apiKey !== undefined && given === `Bearer ${apiKey}`) return true;
  if (keys) return given === sign(request, body, keys);
  return apiKey === undefined;
}

/** Signature Version 4 by its document, over the headers that the request says are signed. */
function sign(
  { method, url = "", headers }: IncomingMessage,
  body: string,
  { accessKeyId, secretAccessKey, region }: NonNullable<BedrockEmulatorOptions["keys"]>,
): string {
  const names = /SignedHeaders=([^,]+)/.exec(headers.authorization ?? "")?.[1] ?? "";
  const time = String(headers["x-amz-date"]);
  const scope = `${time.slice(0, 8)}/${region}/bedrock/aws4_request`;
  const canonical = [
    method,
    // Encoded as it came, and once more.
    url.split("/").map(encodeURIComponent).join("/"),
    "",
    ...names.split(";").map((name) => `${name}:${String(headers[name]).trim()}`),
    "",
    names,
    sha256(body),
  ].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n");
  const key = scope
    .split("/")
    .reduce<string | Buffer>((secret, part) => hmac(secret, part), `AWS4${secretAccessKey}`);
  const signature = hmac(key, toSign).toString("hex");
  return `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
}

type WholeAnswer = Required<BedrockEmulatedAnswer>;

function toAnswer(
  answer: string | BedrockEmulatedAnswer,
  { body }: BedrockEmulatedRequest,
): WholeAnswer {
  const said = typeof answer === "string" ? { content: [{ text: answer }] } : answer;
  const asked = (body.messages ?? []).flatMap(({ content }) => content);
  const inputTokens = words(asked.map(textOf).join(" ")).length;
  const outputTokens = words(said.content.map(textOf).join("")).length;
  const totalTokens = inputTokens + outputTokens;
  const stopReason = said.content.some((block) => "toolUse" in block) ? "tool_use" : "end_turn";
  return { stopReason, usage: { inputTokens, outputTokens, totalTokens }, ...said };
}

/** In Bedrock's order: start, each block's deltas and its end, stop, and the usage last. */
function* eventsOf(
  { content, stopReason, usage }: WholeAnswer,
  pieces: Pieces,
): Generator<[string, Fields]> {
  yield ["messageStart", { role: "assistant" }];
  for (const [contentBlockIndex, block] of content.entries()) {
    const toolUse = block.toolUse as
      | { toolUseId: string; name: string; input: unknown }
      | undefined;
    if (toolUse) {
      const { toolUseId, name, input } = toolUse;
      yield ["contentBlockStart", { contentBlockIndex, start: { toolUse: { toolUseId, name } } }];
      for (const piece of JSON.stringify(input).match(/.{1,5}/gs) ?? []) {
        yield ["contentBlockDelta", { contentBlockIndex, delta: { toolUse: { input: piece } } }];
      }
    } else {
      for (const delta of deltasOf(block, pieces)) {
        yield ["contentBlockDelta", { contentBlockIndex, delta }];
      }
    }
    yield ["contentBlockStop", { contentBlockIndex }];
  }
  yield ["messageStop", { stopReason }];
  yield ["metadata", { usage, metrics: { latencyMs: 5 } }];
}

function deltasOf(block: Fields, pieces: Pieces): Fields[] {
  if (typeof block.text === "string") return pieces(block.text).map((text) => ({ text }));
  const cited = block.citationsContent as { content: Fields[]; citations: Fields[] } | undefined;
  if (cited) {
    const said = cited.content.flatMap(({ text }) => pieces(String(text)));
    return [
      ...said.map((text) => ({ text })),
      ...cited.citations.map((citation) => ({ citation })),
    ];
  }
  const { reasoningText, redactedContent } = block.reasoningContent as {
    reasoningText?: { text: string; signature?: string };
    redactedContent?: string;
  };
  if (redactedContent !== undefined) return [{ reasoningContent: { redactedContent } }];
  const { text = "", signature } = reasoningText ?? {};
  return [
    ...pieces(text).map((word) => ({ reasoningContent: { text: word } })),
    ...(signature === undefined ? [] : [{ reasoningContent: { signature } }]),
  ];
}

async function streamAnswer(
  response: ServerResponse,
  answer: WholeAnswer,
  fault: { name: string | undefined; argument: number; pieces: Pieces },
): Promise<void> {
  response.writeHead(200, { "content-type": "application/vnd.amazon.eventstream" });
  let written = 0;
  for (const [name, payload] of eventsOf(answer, fault.pieces)) {
    const frame = encode("event", name, payload);
    if (written++ === fault.argument) {
      if (fault.name === "cut") {
        response.write(frame.subarray(0, 20));
        // What was written before a cut arrives; a receiver drops what comes together with it.
        await new Promise((resolve) => setTimeout(resolve, 20));
        response.socket?.destroy();
        return;
      }
      if (fault.name === "end") break;
      if (fault.name === "error") {
        const message = "Too many requests, please wait before trying again.";
        response.end(encode("exception", "throttlingException", { message }));
        return;
      }
    }
    if (fault.name !== "split") response.write(frame);
    else {
      for (let at = 0; at < frame.length; at += 7) {
        response.write(frame.subarray(at, at + 7));
        await new Promise(setImmediate);
      }
    }
  }
  response.end();
}

function encode(kind: "event" | "exception", name: string, payload: Fields): Uint8Array {
  const string = (value: string) => ({ type: "string", value }) as const;
  return codec.encode({
    headers: {
      [`:${kind}-type`]: string(name),
      ":content-type": string("application/json"),
      ":message-type": string(kind),
    },
    // Bedrock pads its payloads against guesses from their lengths.
    body: Buffer.from(JSON.stringify({ ...payload, p: "abcd" })),
  });
}

function sendError(response: ServerResponse, status: number, type: string, message: string): void {
  response.setHeader("x-amzn-errortype", `${type}:http://internal.amazon.com/coral/`);
  if (status === 429) response.setHeader("retry-after", "7");
  sendJson(response, status, { message });
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function textOf({ text }: Fields): string {
  return typeof text === "string" ? text : "";
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

const codec = new EventStreamCodec(
  (bytes) => Buffer.from(bytes as Uint8Array).toString(),
  (text) => Buffer.from(text),
);
const errors: Readonly<Record<number, [type: string, message: string]>> = {
  400: ["ValidationException", "The request is not valid."],
  404: ["ResourceNotFoundException", "Could not resolve the foundation model."],
  424: ["ModelErrorException", "The model failed."],
  429: ["ThrottlingException", "Too many requests."],
  503: ["ServiceUnavailableException", "Bedrock is unable to process your request."],
};
