/**
 * Emulates Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens` on loopback, for tests. It is not Anthropic:
 * its answers come from a function that the caller passes, and its "tokens" are words. Written from the published wire
 * format (platform.claude.com/docs/en/api/messages and the types of @anthropic-ai/sdk 1.12, read 2026-11-21), with the
 * refusals that a wrong translation would run into, and with faults that a model's name asks for: `any-model!cut:3`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { findFault } from "./anthropic-rules.ts";
import { type Pieces, words } from "./pieces.ts";

export type EmulatedBlock = { type: string; [field: string]: unknown };

/** A request's body as it came, with the model's name freed of the fault. */
export type MessagesRequest = {
  model: string;
  messages: { role: string; content: string | EmulatedBlock[] }[];
  stream?: boolean;
  [field: string]: unknown;
};

export type EmulatedMessage = {
  content: EmulatedBlock[];
  stop_reason?: string;
  stop_sequence?: string;
  stop_details?: object;
  usage?: Record<string, unknown>;
};

export type AnthropicEmulatorOptions = {
  answer?: (request: MessagesRequest) => string | EmulatedMessage;
  /** The only key that is let in; absent lets everyone in who has one. */
  apiKey?: string;
  /** Pause before each event of a stream. */
  eventDelayMs?: number;
  /** How texts are cut into deltas; by words when absent. */
  pieces?: Pieces;
};

export type AnthropicEmulator = {
  /** With `/v1`, as settings want it; the SDKs add that themselves. */
  baseUrl: string;
  /** Every request that arrived and was let in, newest last; the last 1,000 are kept. */
  requests: { path: string; headers: IncomingMessage["headers"]; body: MessagesRequest }[];
  /** Answers that the other side broke off. */
  aborts: number;
  close(): Promise<void>;
};

/** Listens on a free port of 127.0.0.1. */
export async function startAnthropicEmulator(
  options: AnthropicEmulatorOptions = {},
): Promise<AnthropicEmulator> {
  const emulator: AnthropicEmulator = {
    baseUrl: "",
    requests: [],
    aborts: 0,
    close: () => close(server),
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      response.on("close", () => {
        if (!response.writableFinished) emulator.aborts++;
      });
      serve(request, response, Buffer.concat(chunks).toString("utf8"), options, emulator);
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  emulator.baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return emulator;
}

function serve(
  request: IncomingMessage,
  response: ServerResponse,
  text: string,
  options: AnthropicEmulatorOptions,
  emulator: AnthropicEmulator,
): void {
  const path = new URL(request.url ?? "/", "http://emulator").pathname;
  const counts = path === "/v1/messages/count_tokens";
  const refused = refusalOf(request, { path, text, apiKey: options.apiKey });
  if (refused) {
    sendError(response, refused.status, refused.type, refused.message);
    return;
  }
  const sent = JSON.parse(text) as MessagesRequest;
  const [model = "", faultName, faultArgument] = sent.model.split(/[!:]/);
  const body = { ...sent, model };
  emulator.requests.push({ path, headers: request.headers, body });
  if (emulator.requests.length > 1000) emulator.requests.shift();
  const fault = { name: faultName, argument: Number(faultArgument ?? 0) };
  if (failBefore(response, fault)) return;
  if (counts) {
    sendJson(response, 200, { input_tokens: countWords(body) });
    return;
  }
  const answer = toMessage(options.answer?.(body) ?? "Hello! How can I help you today?", body);
  if (sent.stream === true) void streamAnswer(response, answer, fault, options);
  else sendAnswer(response, answer, fault);
}

type Refusal = { status: number; type: string; message: string };

function refusalOf(
  { method, headers }: IncomingMessage,
  { path, text, apiKey }: { path: string; text: string; apiKey: string | undefined },
): Refusal | undefined {
  const counts = path === "/v1/messages/count_tokens";
  if (method !== "POST" || (path !== "/v1/messages" && !counts)) {
    return { status: 404, type: "not_found_error", message: "Not Found" };
  }
  const key = headers["x-api-key"] ?? headers.authorization?.replace(/^Bearer /, "");
  if (key === undefined || (apiKey !== undefined && key !== apiKey)) {
    return { status: 401, type: "authentication_error", message: "invalid x-api-key" };
  }
  const version = String(headers["anthropic-version"] ?? "");
  const wrong = ["2023-06-01", "2026-10-21"].includes(version)
    ? faultOf(text, { counts, version })
    : "anthropic-version: header is required";
  return wrong ? { status: 400, type: "invalid_request_error", message: wrong } : undefined;
}

function faultOf(text: string, asked: { counts: boolean; version: string }): string | undefined {
  try {
    return findFault(JSON.parse(text) as MessagesRequest, asked);
  } catch {
    return "The request body is not valid JSON";
  }
}

type Fault = { name: string | undefined; argument: number };
type Message = EmulatedMessage & { id: string; model: string; usage: Record<string, unknown> };

/** Faults that come instead of an answer. */
function failBefore(response: ServerResponse, { name, argument }: Fault): boolean {
  switch (name) {
    case "reset":
      response.socket?.resetAndDestroy();
      return true;
    case "overloaded":
      sendError(response, 529, "overloaded_error", "Overloaded");
      return true;
    case "rate-limit":
      sendError(response, 429, "rate_limit_error", "This request would exceed your rate limit", {
        "retry-after": "7",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-21T00:00:00Z",
      });
      return true;
    case "too-long":
      sendError(
        response,
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
      );
      return true;
    case "status":
      sendError(response, argument, "api_error", `The emulator was asked for ${argument}.`);
      return true;
    case "html":
      response.writeHead(502, { "content-type": "text/html" }).end("<h1>Bad gateway</h1>");
      return true;
    case "error-200":
      sendJson(response, 200, {
        type: "error",
        error: { type: "api_error", message: "inside a 200" },
      });
      return true;
    case "never":
      return true;
    default:
      return false;
  }
}

function sendAnswer(response: ServerResponse, message: Message, fault: Fault): void {
  const { usage, ...rest } = wholeMessage(message);
  const answer = { ...rest, ...(fault.name !== "no-usage" && { usage }) };
  if (fault.name === "cut") {
    response.writeHead(200, { "content-type": "application/json", "content-length": "100000" });
    response.write(JSON.stringify(answer).slice(0, 40), () => response.socket?.destroy());
  } else if (fault.name === "malformed") {
    response.writeHead(200, { "content-type": "application/json" }).end('{"content": [');
  } else sendJson(response, 200, answer);
}

async function streamAnswer(
  response: ServerResponse,
  message: Message,
  fault: Fault,
  { eventDelayMs = 0, pieces = words }: AnthropicEmulatorOptions,
): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", ...headers() });
  const lineEnd = fault.name === "crlf" ? "\r\n" : "\n";
  let written = 0;
  for (const event of events(message, pieces)) {
    if (written > 0 && eventDelayMs > 0) await pause(eventDelayMs);
    if (response.destroyed) return;
    if (written === fault.argument) {
      if (fault.name === "cut") {
        // What was written before a cut arrives; a receiver drops what comes together with it.
        await pause(20);
        return void response.socket?.destroy();
      }
      if (fault.name === "end") return void response.end();
      if (fault.name === "stall") return;
      if (fault.name === "error-event") {
        const error = { type: "overloaded_error", message: "Overloaded" };
        return void response.end(frame({ type: "error", error }, lineEnd));
      }
    }
    written++;
    const bytes = Buffer.from(frame(event, lineEnd));
    if (fault.name === "split") await writeInPieces(response, bytes, 7);
    else response.write(bytes);
  }
  response.end();
}

/** The events in Anthropic's order: the head, a sign of life, each block from start to stop, the reason, the end. */
function* events(message: Message, pieces: Pieces): Generator<EmulatedBlock> {
  const { content, stop_reason, stop_sequence, stop_details, usage, ...head } =
    wholeMessage(message);
  const { output_tokens, output_tokens_details, ...input } = usage;
  yield {
    type: "message_start",
    message: {
      ...head,
      content: [],
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      usage: { ...input, output_tokens: 1, output_tokens_details: null },
    },
  };
  yield { type: "ping" };
  for (const [index, block] of content.entries()) {
    yield { type: "content_block_start", index, content_block: emptied(block) };
    for (const delta of deltas(block, pieces)) yield { type: "content_block_delta", index, delta };
    yield { type: "content_block_stop", index };
  }
  yield {
    type: "message_delta",
    delta: { stop_reason, stop_sequence, stop_details, container: null },
    usage: {
      input_tokens: input.input_tokens,
      cache_creation_input_tokens: input.cache_creation_input_tokens,
      cache_read_input_tokens: input.cache_read_input_tokens,
      output_tokens,
      output_tokens_details,
      server_tool_use: null,
    },
  };
  yield { type: "message_stop" };
}

/** A block as it begins: what comes piece by piece is not there yet. */
function emptied(block: EmulatedBlock): EmulatedBlock {
  switch (block.type) {
    case "text":
      return { type: "text", text: "", ...(block.citations ? { citations: [] } : {}) };
    case "thinking":
      return { type: "thinking", thinking: "", signature: "" };
    case "tool_use":
      return { ...block, input: {} };
    default:
      return block;
  }
}

function* deltas(block: EmulatedBlock, pieces: Pieces): Generator<EmulatedBlock> {
  switch (block.type) {
    case "text":
      for (const text of pieces(String(block.text))) yield { type: "text_delta", text };
      for (const citation of (block.citations as object[] | undefined) ?? []) {
        yield { type: "citations_delta", citation };
      }
      return;
    case "thinking":
      for (const thinking of pieces(String(block.thinking))) {
        yield { type: "thinking_delta", thinking };
      }
      yield { type: "signature_delta", signature: block.signature };
      return;
    case "tool_use": {
      // It begins with an empty piece; a call without arguments has no other.
      yield { type: "input_json_delta", partial_json: "" };
      const text = JSON.stringify(block.input);
      for (const partial_json of text === "{}" ? [] : (text.match(/.{1,5}/gs) ?? [])) {
        yield { type: "input_json_delta", partial_json };
      }
    }
  }
}

function wholeMessage({ id, model, content, usage, ...stop }: Message) {
  const called = content.some(({ type }) => type === "tool_use");
  return {
    id,
    type: "message",
    role: "assistant",
    model,
    content: content.map(withNulls),
    container: null,
    diagnostics: null,
    stop_reason: stop.stop_reason ?? (called ? "tool_use" : "end_turn"),
    stop_sequence: stop.stop_sequence ?? null,
    stop_details: stop.stop_details ?? null,
    usage: {
      cache_creation: null,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      inference_geo: null,
      output_tokens_details: null,
      server_tool_use: null,
      service_tier: "standard",
      speed: null,
      ...usage,
    } as Record<string, unknown>,
  };
}

function withNulls(block: EmulatedBlock): EmulatedBlock {
  return block.type === "tool_use" ? { caller: { type: "direct" }, ...block } : block;
}

let answers = 0;

function toMessage(answer: string | EmulatedMessage, request: MessagesRequest): Message {
  const said: EmulatedMessage =
    typeof answer === "string" ? { content: [{ type: "text", text: answer }] } : answer;
  answers++;
  const written = said.content.map((block) => String(block.text ?? block.thinking ?? "")).join(" ");
  return {
    ...said,
    id: `msg_emulated_${answers}`,
    model: request.model,
    usage: said.usage ?? {
      input_tokens: countWords(request),
      output_tokens: words(written).length,
    },
  };
}

function countWords({ messages, system }: MessagesRequest): number {
  const texts = messages.map(({ content }) => textOf(content));
  return words([textOf(system), ...texts].join(" ")).length;
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((block: EmulatedBlock) => String(block.text ?? "")).join(" ");
}

function frame(event: EmulatedBlock, lineEnd: string): string {
  return `event: ${event.type}${lineEnd}data: ${JSON.stringify(event)}${lineEnd}${lineEnd}`;
}

function headers(): Record<string, string> {
  return { "request-id": `req_emulated_${answers}` };
}

function sendError(
  response: ServerResponse,
  status: number,
  type: string,
  message: string,
  more: Record<string, string> = {},
): void {
  const body = { type: "error", error: { type, message }, request_id: `req_emulated_${answers}` };
  sendJson(response, status, body, more);
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  more: Record<string, string> = {},
): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...headers(),
    ...more,
  });
  response.end(text);
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
