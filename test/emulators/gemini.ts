/**
 * Emulates Google's `generateContent` on loopback, as AI Studio and Vertex serve it, with the token endpoint of service
 * accounts. It is not Google: its answers come from a function that the caller passes, and its "tokens" are words.
 * Written from the published wire format (ai.google.dev/api/generate-content, v1beta, and the types of @google/genai
 * 2.32, read 2026-11-21), with faults that a model's name asks for: `any-model!cut-3`.
 */
import { createPublicKey, createVerify, type KeyObject } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import { findFault } from "./gemini-rules.ts";
import { type Pieces, words } from "./pieces.ts";

type Fields = Record<string, unknown>;

/** A request's body as it came, and what its address says. */
export type GeminiEmulatedRequest = {
  /** Freed of the fault. */
  model: string;
  /** Everything of the address before the model's name. */
  prefix: string;
  stream: boolean;
  body: { contents?: { role?: string; parts?: Fields[] }[]; [field: string]: unknown };
  headers: IncomingMessage["headers"];
};

/** What the model says; usage is counted in words where it is not given. */
export type GeminiEmulatedAnswer = {
  parts?: Fields[];
  finishReason?: string;
  /** Further fields of the candidate, such as `groundingMetadata`. */
  candidate?: Fields;
  /** Instead of candidates. */
  promptFeedback?: Fields;
  usage?: Fields;
};

export type GeminiEmulatorOptions = {
  answer?: (request: GeminiEmulatedRequest) => string | GeminiEmulatedAnswer;
  /** The only key that is let in; absent lets everyone in. */
  apiKey?: string;
  /** Of a service account: then only tokens that were given out for it are let in. */
  serviceAccount?: { email: string; publicKey: string; tokenSeconds: number };
  deltaDelayMs?: number;
  /** How texts are cut into deltas; by words when absent. */
  pieces?: Pieces;
  /** Whether all fields are looked at, not only the outermost; their names have to be in camel case then. */
  strict?: boolean;
};

export type GeminiEmulator = {
  /** Without a path, as Google's SDK wants it. */
  origin: string;
  /** With `/v1beta`, as settings want it. */
  baseUrl: string;
  tokenUri: string;
  requests: GeminiEmulatedRequest[];
  /** Access tokens given out, oldest first. */
  tokens: string[];
  close(): Promise<void>;
};

export async function startGeminiEmulator(
  options: GeminiEmulatorOptions = {},
): Promise<GeminiEmulator> {
  const state: State = { options, requests: [], tokens: [] };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => serve(state, request, response, Buffer.concat(chunks).toString()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    baseUrl: `${origin}/v1beta`,
    tokenUri: `${origin}/token`,
    requests: state.requests,
    tokens: state.tokens,
    close: () => close(server),
  };
}

type State = {
  options: GeminiEmulatorOptions;
  requests: GeminiEmulatedRequest[];
  tokens: string[];
};
type Fault = { name: string | undefined; argument: number };
type EmulatedEmbedding = {
  content: { parts: { text: string }[] };
  outputDimensionality?: number | undefined;
};

/** A text's length and eighths of it, which floats of 32 bits hold exactly. */
function embed({ content, outputDimensionality = 4 }: EmulatedEmbedding) {
  const { length } = content.parts.map(({ text }) => text).join("");
  return { values: Array.from({ length: outputDimensionality }, (_, at) => length + at / 8) };
}

/**
 * Vertex's `:predict` of text embeddings (cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api,
 * read 2026-11-22).
 * @returns what is wrong with the request, or the answer
 */
function predict(body: Fields): Fields | string {
  const parsed = predictBody.safeParse(body);
  if (!parsed.success) return `Invalid value: ${parsed.error.message}`;
  const { instances, parameters } = parsed.data;
  return {
    predictions: instances.map(({ content }) => ({
      embeddings: {
        ...embed({ content: { parts: [{ text: content }] }, ...parameters }),
        statistics: { truncated: false, token_count: words(content).length },
      },
    })),
    metadata: { billableCharacterCount: instances.map(({ content }) => content).join("").length },
  };
}

/** Vertex's `:embedContent`, as @google/genai 2 puts it and reads it. */
function embedOne(body: Fields): Fields | string {
  const parsed = embedContentBody.safeParse(body);
  if (!parsed.success) return `Invalid value: ${parsed.error.message}`;
  const { content, embedContentConfig: { outputDimensionality } = {} } = parsed.data;
  const texts = content.parts.map(({ text }) => text).join(" ");
  return {
    embedding: embed({ content, outputDimensionality }),
    usageMetadata: { promptTokenCount: words(texts).length },
    truncated: false,
  };
}

const predictBody = z.strictObject({
  instances: z
    .array(
      z.strictObject({
        content: z.string().min(1),
        task_type: z.string().optional(),
        title: z.string().optional(),
      }),
    )
    .min(1)
    .max(250),
  parameters: z
    .strictObject({
      outputDimensionality: z.int().positive().optional(),
      autoTruncate: z.boolean().optional(),
    })
    .optional(),
});
const embedContentBody = z.strictObject({
  content: z.strictObject({
    role: z.string().optional(),
    parts: z.array(z.strictObject({ text: z.string().min(1) })).min(1),
  }),
  embedContentConfig: z
    .strictObject({
      taskType: z.string().optional(),
      title: z.string().optional(),
      outputDimensionality: z.int().positive().optional(),
      autoTruncate: z.boolean().optional(),
    })
    .optional(),
});

/** Newer models tell how much they read. */
function toldOf(requests: readonly EmulatedEmbedding[], { name }: Fault) {
  if (name === "nousage") return {};
  const texts = requests.flatMap(({ content }) => content.parts.map(({ text }) => text));
  return { usageMetadata: { promptTokenCount: words(texts.join(" ")).length } };
}

function serve(
  state: State,
  request: IncomingMessage,
  response: ServerResponse,
  text: string,
): void {
  const url = new URL(request.url ?? "/", "http://emulator");
  if (url.pathname === "/token") {
    giveToken(state, response, text);
    return;
  }
  const [, prefix = "", name = "", method] =
    /^(.*)\/models\/(.+):([A-Za-z]+)$/.exec(decodeURIComponent(url.pathname)) ?? [];
  if (request.method !== "POST" || !methods.has(method ?? "")) {
    sendError(response, 404, "NOT_FOUND", `models/${name} is not found.`);
    return;
  }
  if (!isLetIn(state, request, url)) {
    if (state.options.serviceAccount) {
      sendError(
        response,
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials.",
      );
      return;
    }
    // Google tells a wrong key as a bad request.
    sendError(response, 400, "INVALID_ARGUMENT", "API key not valid.", [
      { "@type": `${types}ErrorInfo`, reason: "API_KEY_INVALID", domain: "googleapis.com" },
    ]);
    return;
  }
  const [model = "", faultText] = name.split("!");
  const [faultName, argument] = faultText?.split("-") ?? [];
  const fault = { name: faultName, argument: Number(argument ?? 0) };
  const body = JSON.parse(text) as GeminiEmulatedRequest["body"];
  if (method === "countTokens") {
    const asked = (body.generateContentRequest ?? body) as GeminiEmulatedRequest["body"];
    const parts = (asked.contents ?? []).flatMap((content) => content.parts ?? []);
    sendJson(response, 200, { totalTokens: words(parts.map(textOf).join(" ")).length });
    return;
  }
  if (method === "batchEmbedContents") {
    const { requests = [] } = JSON.parse(text) as { requests?: EmulatedEmbedding[] };
    sendJson(response, 200, { embeddings: requests.map(embed), ...toldOf(requests, fault) });
    return;
  }
  if (method === "predict" || method === "embedContent") {
    const vectors = method === "predict" ? predict(body) : embedOne(body);
    if (typeof vectors === "string") sendError(response, 400, "INVALID_ARGUMENT", vectors);
    else sendJson(response, 200, vectors);
    return;
  }
  const unknown = Object.keys(body).find((field) => !knownFields.has(field));
  if (unknown !== undefined) {
    const message = `Invalid JSON payload received. Unknown name "${unknown}": Cannot find field.`;
    sendError(response, 400, "INVALID_ARGUMENT", message, [
      {
        "@type": `${types}BadRequest`,
        fieldViolations: [{ field: unknown, description: message }],
      },
    ]);
    return;
  }
  const wrong = state.options.strict ? findFault(body) : undefined;
  if (wrong) {
    const { field, message } = wrong;
    sendError(response, 400, "INVALID_ARGUMENT", message, [
      { "@type": `${types}BadRequest`, fieldViolations: [{ field, description: message }] },
    ]);
    return;
  }
  const stream = method === "streamGenerateContent";
  const asked = { model, prefix, stream, body, headers: request.headers };
  state.requests.push(asked);
  if (failBefore(response, fault)) return;
  const answer = toAnswer(state.options.answer?.(asked) ?? "Hello! How can I help?", asked);
  if (!stream) {
    sendAnswer(response, asked, answer, fault);
    return;
  }
  const isSse = url.searchParams.get("alt") === "sse";
  void streamAnswer(response, chunksOf(asked, answer, state.options.pieces ?? words), {
    isSse,
    fault,
    delayMs: state.options.deltaDelayMs ?? 0,
  });
}

function isLetIn({ options, tokens }: State, { headers }: IncomingMessage, url: URL): boolean {
  if (options.serviceAccount) return headers.authorization === `Bearer ${tokens.at(-1)}`;
  if (options.apiKey === undefined) return true;
  const key = headers["x-goog-api-key"] ?? url.searchParams.get("key");
  return key === options.apiKey || headers.authorization === `Bearer ${options.apiKey}`;
}

/** OAuth 2.0 with a signed JWT (RFC 7523), checked as Google checks it. */
function giveToken({ options, tokens }: State, response: ServerResponse, text: string): void {
  const form = new URLSearchParams(text);
  const account = options.serviceAccount;
  const claims =
    account && readJwt(form.get("assertion") ?? "", createPublicKey(account.publicKey));
  const lasts = Number(claims?.exp) - Number(claims?.iat);
  if (
    form.get("grant_type") !== "urn:ietf:params:oauth:grant-type:jwt-bearer" ||
    claims?.iss !== account?.email ||
    !String(claims?.scope).includes("https://www.googleapis.com/auth/cloud-platform") ||
    !(lasts > 0 && lasts <= 3600)
  ) {
    sendJson(response, 400, { error: "invalid_grant", error_description: "Bad assertion" });
    return;
  }
  const access_token = `ya29.emulated-${tokens.length + 1}`;
  tokens.push(access_token);
  sendJson(response, 200, {
    access_token,
    expires_in: account?.tokenSeconds,
    token_type: "Bearer",
  });
}

function readJwt(jwt: string, key: KeyObject): Fields | undefined {
  const [head = "", claims = "", signature = ""] = jwt.split(".");
  const { alg } = JSON.parse(Buffer.from(head, "base64url").toString() || "{}") as Fields;
  const verify = createVerify("RSA-SHA256").update(`${head}.${claims}`);
  if (alg !== "RS256" || !verify.verify(key, signature, "base64url")) return undefined;
  return JSON.parse(Buffer.from(claims, "base64url").toString()) as Fields;
}

/** Faults that come instead of an answer. */
function failBefore(response: ServerResponse, { name, argument }: Fault): boolean {
  switch (name) {
    case "status": {
      const retry = { "@type": `${types}RetryInfo`, retryDelay: "7s" };
      const details = argument === 429 ? [retry] : undefined;
      const message = `The emulator was asked for ${argument}.`;
      sendError(response, argument, statusNames[argument] ?? "UNKNOWN", message, details);
      return true;
    }
    case "array": {
      const error = { code: 503, message: "The model is overloaded.", status: "UNAVAILABLE" };
      sendJson(response, 503, [{ error }]);
      return true;
    }
    case "html":
      response.writeHead(502, { "content-type": "text/html" }).end("<h1>Bad gateway</h1>");
      return true;
    case "context":
      sendError(
        response,
        400,
        "INVALID_ARGUMENT",
        "The input token count (9) exceeds the maximum number of tokens allowed (8).",
      );
      return true;
    default:
      return false;
  }
}

function sendAnswer(
  response: ServerResponse,
  request: GeminiEmulatedRequest,
  answer: WholeAnswer,
  fault: Fault,
): void {
  const { parts, finishReason, candidate, promptFeedback, usage } = answer;
  sendJson(response, 200, {
    ...(promptFeedback
      ? { promptFeedback }
      : {
          candidates: [{ content: { parts, role: "model" }, finishReason, index: 0, ...candidate }],
        }),
    ...(fault.name !== "nousage" && { usageMetadata: usage }),
    ...head(request),
  });
}

/** Texts come word by word, calls whole; each chunk tells the usage so far. */
function chunksOf(request: GeminiEmulatedRequest, answer: WholeAnswer, cut: Pieces): Fields[] {
  const shared = head(request);
  const { usage, promptFeedback } = answer;
  if (promptFeedback) return [{ promptFeedback, usageMetadata: usage, ...shared }];
  const pieces = answer.parts.flatMap((part): Fields[] =>
    typeof part.text === "string"
      ? cut(part.text).map((text, index) => {
          const { thoughtSignature, ...rest } = part;
          const signed = thoughtSignature !== undefined && index === 0;
          return { ...rest, text, ...(signed && { thoughtSignature }) };
        })
      : [part],
  );
  if (pieces.length === 0) pieces.push({ text: "" });
  const { candidatesTokenCount: _, ...begun } = usage;
  return pieces.map((part, at) => {
    const isLast = at === pieces.length - 1;
    const more = isLast ? { finishReason: answer.finishReason, ...answer.candidate } : {};
    return {
      candidates: [{ content: { parts: [part], role: "model" }, index: 0, ...more }],
      usageMetadata: isLast ? usage : begun,
      ...shared,
    };
  });
}

async function streamAnswer(
  response: ServerResponse,
  chunks: Fields[],
  { isSse, fault, delayMs }: { isSse: boolean; fault: Fault; delayMs: number },
): Promise<void> {
  response.writeHead(200, { "content-type": isSse ? "text/event-stream" : "application/json" });
  const frame = (chunk: unknown, at: number) =>
    isSse
      ? `data: ${JSON.stringify(chunk)}\r\n\r\n`
      : `${at === 0 ? "[" : ",\r\n"}${JSON.stringify(chunk, undefined, 2)}`;
  for (const [at, chunk] of chunks.entries()) {
    if (at > 0 && delayMs > 0) await pause(delayMs);
    if (response.destroyed) return;
    if (at === fault.argument && fault.name === "cut") {
      response.write(frame(chunk, at).slice(0, 30));
      // What was written before a cut arrives; a receiver drops what comes together with it.
      await pause(20);
      return void response.socket?.destroy();
    }
    if (at === fault.argument && fault.name === "end") return void response.end();
    if (at === fault.argument && fault.name === "error") {
      const error = { code: 503, message: "The model is overloaded.", status: "UNAVAILABLE" };
      return void response.end(frame({ error }, at));
    }
    if (at === fault.argument && fault.name === "bare") {
      // As it comes when a stream fails after its headers: without `data:`, and by itself.
      await pause(20);
      const error = { code: 503, message: "The model is overloaded.", status: "UNAVAILABLE" };
      return void response.end(JSON.stringify({ error }, undefined, 2));
    }
    if (fault.name === "split") await writeInPieces(response, Buffer.from(frame(chunk, at)), 7);
    else response.write(frame(chunk, at));
  }
  response.end(isSse ? "" : "]");
}

type WholeAnswer = GeminiEmulatedAnswer & { parts: Fields[]; finishReason: string; usage: Fields };

function toAnswer(
  answer: string | GeminiEmulatedAnswer,
  { body }: GeminiEmulatedRequest,
): WholeAnswer {
  const said = typeof answer === "string" ? { parts: [{ text: answer }] } : answer;
  const parts = said.parts ?? [];
  const asked = (body.contents ?? []).flatMap((content) => content.parts ?? []);
  const promptTokenCount = words(asked.map(textOf).join(" ")).length;
  const candidatesTokenCount = words(parts.map(textOf).join("")).length;
  const totalTokenCount = promptTokenCount + candidatesTokenCount;
  const usage = { promptTokenCount, candidatesTokenCount, totalTokenCount };
  return { finishReason: "STOP", usage, ...said, parts };
}

function textOf({ text }: Fields): string {
  return typeof text === "string" ? text : "";
}

let answers = 0;
function head({ model }: GeminiEmulatedRequest): Fields {
  answers++;
  return { modelVersion: model, responseId: `emulated${answers}` };
}

function sendError(
  response: ServerResponse,
  code: number,
  status: string,
  message: string,
  details?: Fields[],
): void {
  sendJson(response, code, { error: { code, message, status, ...(details && { details }) } });
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  // Google's JSON is pretty-printed.
  const text = JSON.stringify(body, undefined, 2);
  response.writeHead(status, { "content-type": "application/json; charset=UTF-8" }).end(text);
}

async function writeInPieces(response: ServerResponse, bytes: Buffer, size: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += size) {
    response.write(bytes.subarray(at, at + size));
    await new Promise(setImmediate);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

const methods: ReadonlySet<string> = new Set([
  "generateContent",
  "streamGenerateContent",
  "countTokens",
  "batchEmbedContents",
  "predict",
  "embedContent",
]);
const types = "type.googleapis.com/google.rpc.";
const statusNames: Readonly<Record<number, string>> = {
  400: "INVALID_ARGUMENT",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  429: "RESOURCE_EXHAUSTED",
  500: "INTERNAL",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};
const knownFields: ReadonlySet<string> = new Set(
  [
    "contents",
    "tools",
    "toolConfig",
    "safetySettings",
    "systemInstruction",
    "generationConfig",
    "cachedContent",
    "labels",
    "serviceTier",
    "store",
  ].flatMap((name) => [name, name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]),
);
