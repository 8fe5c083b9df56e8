/**
 * Emulates OpenAI's `POST /v1/chat/completions` on loopback, for tests, the demo and benchmarks. It is not
 * OpenAI: its answers come from a function that the caller passes, and its "tokens" are words. Written from
 * the published wire format (platform.openai.com/docs/api-reference/chat, specification 2.3.0, read
 * 2026-11-21), with faults that a model's name asks for: `any-model!cut:3`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { answerAsResponse } from "./openai-responses.ts";
import { findFault, outputsFault } from "./openai-rules.ts";
import { type Pieces, words } from "./pieces.ts";

export type EmulatedMessage = { role: string; content?: unknown };

/** A request's body as it came, with the model's name freed of the fault. */
export type EmulatedRequest = {
  model: string;
  messages: EmulatedMessage[];
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
  [field: string]: unknown;
};

export type EmulatedUsage = {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details?: { cached_tokens: number; cache_write_tokens?: number };
  completion_tokens_details?: { reasoning_tokens: number };
};

/** What the model says; usage is counted in words where it is not given. */
export type EmulatedAnswer = {
  content: string;
  toolCalls?: { id: string; name: string; arguments: string; custom?: boolean }[];
  /** As vLLM and DeepSeek send it. */
  reasoning?: string;
  refusal?: string;
  /** Pages that the text cites. */
  citations?: { url: string; title: string; start_index: number; end_index: number }[];
  /** Of the text, word by word, told where they are asked for. */
  logprobs?: { token: string; logprob: number; bytes: number[]; top_logprobs: unknown[] }[];
  finish?: string;
  usage?: EmulatedUsage;
};
/** With its usage. */
type WholeAnswer = EmulatedAnswer & { usage: EmulatedUsage };

export type OpenAiEmulatorOptions = {
  answer?: (request: EmulatedRequest) => string | EmulatedAnswer;
  /** What happens before an answer; it waits for that. */
  before?: (request: EmulatedRequest) => Promise<void> | void;
  /** The only key that is let in; absent lets everyone in. */
  apiKey?: string;
  /** Whether fields that OpenAI does not know are refused, as it does; else it takes what others take. */
  strict?: boolean;
  /** Pause before each delta of a stream. */
  deltaDelayMs?: number;
  /** How texts are cut into deltas; by words when absent. */
  pieces?: Pieces;
  port?: number;
};

export type OpenAiEmulator = {
  /** With `/v1`, as SDKs and settings want it. */
  baseUrl: string;
  /** Every request that arrived, newest last; the last 1,000 are kept. */
  requests: {
    headers: IncomingMessage["headers"];
    /** The caller's port: the same for two requests on one connection. */
    port: number | undefined;
    body: EmulatedRequest;
  }[];
  /** Answers that the other side broke off, and when it did (`performance.now()`). */
  aborts: { model: string; at: number }[];
  close(): Promise<void>;
};

/** Listens on a free port of 127.0.0.1, or on the one that is asked for. */
export async function startOpenAiEmulator(
  options: OpenAiEmulatorOptions = {},
): Promise<OpenAiEmulator> {
  const requests: OpenAiEmulator["requests"] = [];
  const aborts: OpenAiEmulator["aborts"] = [];
  const server = createServer((request, response) => {
    readBody(request, (text) => {
      response.on("close", () => {
        if (response.writableFinished) return;
        aborts.push({ model: requests.at(-1)?.body.model ?? "", at: performance.now() });
      });
      serve(request, response, text, options, (body) => {
        requests.push({ headers: request.headers, port: request.socket.remotePort, body });
        if (requests.length > 1000) requests.shift();
      });
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { baseUrl: `http://127.0.0.1:${port}/v1`, requests, aborts, close: () => close(server) };
}

function serve(
  request: IncomingMessage,
  response: ServerResponse,
  text: string,
  options: OpenAiEmulatorOptions,
  record: (body: EmulatedRequest) => void,
): void {
  const kind = kinds.get(request.url ?? "");
  if (!kind || request.method !== "POST") {
    sendError(response, 404, `Unknown request URL: ${request.method} ${request.url}.`, {
      code: "unknown_url",
    });
    return;
  }
  if (
    options.apiKey !== undefined &&
    request.headers.authorization !== `Bearer ${options.apiKey}`
  ) {
    sendError(response, 401, "Incorrect API key provided: sk-emul***.", {
      code: "invalid_api_key",
    });
    return;
  }
  let sent: EmulatedRequest;
  try {
    sent = JSON.parse(text) as EmulatedRequest;
  } catch {
    sendError(response, 400, "We could not parse the JSON body of your request.", {});
    return;
  }
  const [model = "", faultName, faultArgument] = sent.model.split(/[!:]/);
  const body = { ...sent, model };
  const wrong = options.strict
    ? findFault(sent, kind)
    : kind === "responses"
      ? outputsFault(sent)
      : undefined;
  if (wrong) {
    const { message, param } = wrong;
    sendError(response, 400, message, { code: "invalid_request_error", param });
    return;
  }
  record(body);
  const fault = { name: faultName, argument: Number(faultArgument ?? 0) };
  if (failBefore(response, fault)) return;
  const reply = () => replyTo(response, { sent, body, fault, kind }, options);
  if (options.before) void Promise.resolve(options.before(body)).then(reply);
  else reply();
}

type Asked = {
  /** As it came, and freed of the fault. */
  sent: EmulatedRequest;
  body: EmulatedRequest;
  fault: Fault;
  kind: Kind;
};

function replyTo(
  response: ServerResponse,
  { sent, body, fault, kind }: Asked,
  options: OpenAiEmulatorOptions,
): void {
  const { pieces = words } = options;
  const answer = toAnswer(options.answer?.(body) ?? "Hello! How can I help you today?", body);
  if (kind === "responses") {
    answerAsResponse(response, body, answer, { fault: fault.name, pieces });
    return;
  }
  const begin = () =>
    sent.stream === true
      ? void streamAnswer(response, body, answer, fault, {
          kind,
          delayMs: options.deltaDelayMs ?? 0,
          pieces,
        })
      : sendAnswer(response, body, answer, { ...fault, kind });
  if (fault.name === "slow-first-byte") setTimeout(begin, fault.argument);
  else begin();
}

type Kind = "chat" | "responses" | "completions";
const kinds: ReadonlyMap<string, Kind> = new Map([
  ["/v1/chat/completions", "chat"],
  ["/v1/responses", "responses"],
  ["/v1/completions", "completions"],
]);

type Fault = { name: string | undefined; argument: number };

/** Faults that come instead of an answer. */
function failBefore(response: ServerResponse, fault: Fault): boolean {
  switch (fault.name) {
    case "reset":
      response.socket?.resetAndDestroy();
      return true;
    case "status":
      sendError(response, fault.argument, `The emulator was asked for ${fault.argument}.`, {
        code: fault.argument === 429 ? "rate_limit_exceeded" : null,
        headers: fault.argument === 429 ? { "retry-after": "7" } : {},
      });
      return true;
    case "no-quota":
      sendError(response, 429, "You exceeded your current quota.", { code: "insufficient_quota" });
      return true;
    case "context":
      sendError(response, 400, "This model's maximum context length is 8 tokens.", {
        code: "context_length_exceeded",
        param: "messages",
      });
      return true;
    case "html":
      response.writeHead(502, { "content-type": "text/html" }).end("<h1>Bad gateway</h1>");
      return true;
    case "error-200":
      sendJson(response, 200, { error: { message: "inside a 200", type: "server_error" } });
      return true;
    case "never":
      return true;
    default:
      return false;
  }
}

function sendAnswer(
  response: ServerResponse,
  request: EmulatedRequest,
  said: WholeAnswer,
  fault: Fault & { kind: Kind },
): void {
  const { content, reasoning, refusal = null, citations = [], toolCalls } = said;
  const message = {
    role: "assistant",
    content: content === "" ? null : content,
    refusal,
    annotations: citations.map(toAnnotation),
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
    ...(toolCalls && { tool_calls: toolCalls.map(toToolCall) }),
  };
  const choice = { index: 0, finish_reason: finishOf(said) };
  const answer = {
    ...(fault.kind === "completions"
      ? { ...textHead(request), choices: [{ ...choice, text: content, logprobs: null }] }
      : {
          ...head("chat.completion", request),
          choices: [{ ...choice, message, logprobs: logprobsOf(request, said.logprobs) }],
        }),
    ...(fault.name !== "no-usage" && { usage: said.usage }),
    system_fingerprint: fingerprint,
  };
  if (fault.name === "cut") {
    response.writeHead(200, { "content-type": "application/json", "content-length": "100000" });
    response.write(JSON.stringify(answer).slice(0, 40), () => response.socket?.destroy());
  } else if (fault.name === "malformed") {
    response.writeHead(200, { "content-type": "application/json" }).end('{"choices": [');
  } else sendJson(response, 200, answer);
}

async function streamAnswer(
  response: ServerResponse,
  request: EmulatedRequest,
  answer: WholeAnswer,
  fault: Fault,
  { kind, delayMs: deltaDelayMs, pieces }: { kind: Kind; delayMs: number; pieces: Pieces },
): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", ...headers() });
  const lineEnd = fault.name === "crlf" ? "\r\n" : "\n";
  let written = 0;
  const produce = kind === "completions" ? textEvents : events;
  for (const event of produce(request, answer, { ...fault, pieces })) {
    if (written > 0 && deltaDelayMs > 0) await pause(deltaDelayMs);
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
        response.end(
          `data: ${JSON.stringify({ error: { message: "overloaded", type: "server_error", param: null, code: null } })}\n\n`,
        );
        return;
      }
    }
    written++;
    const frame = `data: ${event}${lineEnd}${lineEnd}`;
    if (fault.name === "split") await writeInPieces(response, Buffer.from(frame), 7);
    else response.write(frame);
  }
  response.end();
}

/** The chunks in OpenAI's order: role, deltas, finish, usage if asked for, `[DONE]`. */
function* events(
  request: EmulatedRequest,
  said: WholeAnswer,
  { pieces, ...fault }: Fault & { pieces: Pieces },
): Generator<string> {
  const { content, reasoning = "", refusal = "", citations = [], toolCalls = [], usage } = said;
  const wantsUsage = request.stream_options?.include_usage === true && fault.name !== "no-usage";
  const shared = {
    ...head("chat.completion.chunk", request),
    system_fingerprint: fingerprint,
  };
  const chunk = (delta: unknown, finish: string | null, logprobs: unknown = null) =>
    JSON.stringify({
      ...shared,
      choices: [{ index: 0, delta, logprobs, finish_reason: finish }],
      ...(wantsUsage && { usage: null }),
    });
  yield chunk({ role: "assistant", content: "", refusal: null }, null);
  for (const word of pieces(reasoning)) yield chunk({ reasoning_content: word }, null);
  for (const [at, word] of pieces(content).entries()) {
    const told = said.logprobs?.slice(at, at + 1);
    yield chunk({ content: word }, null, logprobsOf(request, told));
  }
  if (citations.length > 0) yield chunk({ annotations: citations.map(toAnnotation) }, null);
  for (const word of pieces(refusal)) yield chunk({ refusal: word }, null);
  for (const [index, call] of toolCalls.entries()) {
    yield chunk({ tool_calls: [{ index, ...toToolCall({ ...call, arguments: "" }) }] }, null);
    for (const piece of call.arguments.match(/.{1,5}/gs) ?? []) {
      const more = call.custom ? { custom: { input: piece } } : { function: { arguments: piece } };
      yield chunk({ tool_calls: [{ index, ...more }] }, null);
    }
  }
  yield chunk({}, finishOf(said));
  if (wantsUsage) yield JSON.stringify({ ...shared, choices: [], usage });
  yield "[DONE]";
}

function toAnnotation(url_citation: object): object {
  return { type: "url_citation", url_citation };
}

function logprobsOf({ logprobs }: EmulatedRequest, content: unknown[] | undefined): object | null {
  return logprobs === true && content ? { content, refusal: null } : null;
}

/** The older completions': each chunk is a whole object with a further piece of text. */
function* textEvents(
  request: EmulatedRequest,
  said: WholeAnswer,
  { pieces }: { pieces: Pieces },
): Generator<string> {
  const shared = textHead(request);
  const chunk = (text: string, finish_reason: string | null) =>
    JSON.stringify({ ...shared, choices: [{ text, index: 0, logprobs: null, finish_reason }] });
  for (const word of pieces(said.content)) yield chunk(word, null);
  yield chunk("", finishOf(said));
  if (request.stream_options?.include_usage) {
    yield JSON.stringify({ ...shared, choices: [], usage: said.usage });
  }
  yield "[DONE]";
}

function textHead(request: EmulatedRequest) {
  const { id, ...rest } = head("text_completion", request);
  return { id: id.replace("chatcmpl-", "cmpl-"), ...rest };
}

type Called = NonNullable<EmulatedAnswer["toolCalls"]>[number];

function toToolCall({ id, name, arguments: text, custom }: Called) {
  return custom
    ? { id, type: "custom", custom: { name, input: text } }
    : { id, type: "function", function: { name, arguments: text } };
}

function finishOf({ finish, toolCalls }: EmulatedAnswer): string {
  return finish ?? (toolCalls ? "tool_calls" : "stop");
}

function toAnswer(answer: string | EmulatedAnswer, request: EmulatedRequest): WholeAnswer {
  const said: EmulatedAnswer = typeof answer === "string" ? { content: answer } : answer;
  const { content, usage } = said;
  if (usage) return { ...said, usage };
  const asked = request.messages ?? request.input ?? request.prompt ?? [];
  const text =
    typeof asked === "string"
      ? asked
      : (asked as EmulatedMessage[]).map((message) => textOf(message.content)).join(" ");
  const prompt_tokens = words(text).length;
  const completion_tokens = words(content).length;
  return {
    ...said,
    usage: {
      prompt_tokens,
      completion_tokens,
      total_tokens: prompt_tokens + completion_tokens,
      prompt_tokens_details: { cached_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0 },
    },
  };
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part: { text?: string }) => part.text ?? "").join(" ");
}

let answers = 0;
const fingerprint = "fp_emulator";

function head(object: string, { model }: EmulatedRequest) {
  answers++;
  return {
    id: `chatcmpl-emulated-${answers}`,
    object,
    created: Math.floor(Date.now() / 1000),
    model,
  };
}

function headers(): Record<string, string> {
  return { "openai-version": "2020-10-01", "x-request-id": `req_emulated_${answers}` };
}

function sendError(
  response: ServerResponse,
  status: number,
  message: string,
  options: { code?: string | null; param?: string; headers?: Record<string, string> },
): void {
  const type = status >= 500 ? "server_error" : "invalid_request_error";
  const { code = null, param = null } = options;
  sendJson(response, status, { error: { message, type, param, code } }, options.headers);
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

function readBody(request: IncomingMessage, done: (text: string) => void): void {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => done(Buffer.concat(chunks).toString("utf8")));
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
