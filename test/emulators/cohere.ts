/**
 * Emulates Cohere's `POST /v2/chat` and `/v2/embed` on loopback, for tests. It is not Cohere: its answers come from a
 * function that the caller passes, and its "tokens" are words. Written from the published wire format
 * (docs.cohere.com/reference/chat and /embed, and the types of cohere-ai 8.0, read 2026-11-21), with the refusals that a wrong
 * translation would run into, and with faults that a model's name asks for: `any-model!cut-3`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import { type CohereChatBody, type CohereEmbedBody, embedBody, findFault } from "./cohere-rules.ts";
import { words } from "./pieces.ts";

type Fields = Record<string, unknown>;

/** A request's body as it came, with the model's name freed of the fault. */
export type CohereEmulatedRequest = {
  path: string;
  body: Fields;
  headers: IncomingMessage["headers"];
};

/** What the model says; usage is counted in words where it is not given. */
export type CohereEmulatedAnswer = {
  content?: ({ type: "text"; text: string } | { type: "thinking"; thinking: string })[];
  tool_plan?: string;
  tool_calls?: { id: string; type: "function"; function: { name: string; arguments: string } }[];
  citations?: Fields[];
  finish_reason?: string;
  usage?: Fields;
  logprobs?: { text: string; token_ids: number[]; logprobs: number[] }[];
};

export type CohereEmulatorOptions = {
  answer?: (body: CohereChatBody) => string | CohereEmulatedAnswer;
  /** The only key that is let in; absent lets everyone in. */
  apiKey?: string;
};

export type CohereEmulator = {
  /** With `/v2`, as settings want it; the SDK adds that itself. */
  baseUrl: string;
  /** Every request that was let in and found right, newest last. */
  requests: CohereEmulatedRequest[];
  close(): Promise<void>;
};

/** Listens on a free port of 127.0.0.1. */
export async function startCohereEmulator(
  options: CohereEmulatorOptions = {},
): Promise<CohereEmulator> {
  const requests: CohereEmulatedRequest[] = [];
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
  return { baseUrl: `http://127.0.0.1:${port}/v2`, requests, close: () => close(server) };
}

type State = { options: CohereEmulatorOptions; requests: CohereEmulatedRequest[] };
type Exchange = { request: IncomingMessage; response: ServerResponse; text: string };
type Fault = { name: string | undefined; argument: number };

function serve({ options, requests }: State, { request, response, text }: Exchange): void {
  const { method, url: path = "/", headers } = request;
  if (method !== "POST" || (path !== "/v2/chat" && path !== "/v2/embed")) {
    sendError(response, 404, "page not found");
    return;
  }
  const key = /^bearer (.+)$/i.exec(headers.authorization ?? "")?.[1];
  if (options.apiKey !== undefined && key !== options.apiKey) {
    sendError(response, 401, "invalid api token");
    return;
  }
  const sent = JSON.parse(text) as Fields;
  const [model = "", faultText] = String(sent.model).split("!");
  const [name, argument] = faultText?.split("-") ?? [];
  const fault = { name, argument: Number(argument ?? 0) };
  const body = { ...sent, model };
  const wrong = path === "/v2/chat" ? findFault(body) : embedFault(body);
  if (wrong !== undefined) {
    sendError(response, 400, wrong);
    return;
  }
  requests.push({ path, body, headers });
  if (fault.name === "status") {
    if (fault.argument === 429) response.setHeader("retry-after", "7");
    sendError(response, fault.argument, messages[fault.argument] ?? "internal server error");
    return;
  }
  if (path === "/v2/embed") {
    sendVectors(response, body as unknown as CohereEmbedBody);
    return;
  }
  const asked = body as unknown as CohereChatBody;
  const answer = toAnswer(options.answer?.(asked) ?? "Hello! How can I help?", asked);
  if (asked.stream) void streamAnswer(response, answer, fault);
  else {
    const { finish_reason, usage, logprobs, ...message } = answer;
    sendJson(response, 200, {
      id: newId(),
      message: { role: "assistant", ...message },
      finish_reason,
      usage,
      ...(logprobs && asked.logprobs && { logprobs }),
    });
  }
}

function embedFault(body: Fields): string | undefined {
  const parsed = embedBody.safeParse(body);
  return parsed.success ? undefined : `invalid request: ${z.prettifyError(parsed.error)}`;
}

/** A vector of two, by the text's length. */
function sendVectors(response: ServerResponse, { texts, embedding_types }: CohereEmbedBody): void {
  const [type = "float"] = embedding_types ?? [];
  const vectors = texts.map((text) => [text.length, 0.5]);
  const inBase64 = (vector: number[]) =>
    Buffer.from(new Float32Array(vector).buffer).toString("base64");
  sendJson(response, 200, {
    id: newId(),
    response_type: "embeddings_by_type",
    embeddings: { [type]: type === "base64" ? vectors.map(inBase64) : vectors },
    texts,
    meta: {
      api_version: { version: "2" },
      billed_units: { input_tokens: words(texts.join(" ")).length },
    },
  });
}

type WholeAnswer = CohereEmulatedAnswer & { finish_reason: string; usage: Fields };

function toAnswer(said: string | CohereEmulatedAnswer, { messages }: CohereChatBody): WholeAnswer {
  const answer: CohereEmulatedAnswer =
    typeof said === "string" ? { content: [{ type: "text", text: said }] } : said;
  const input_tokens = words(messages.map(({ content }) => textOf(content)).join(" ")).length;
  const output_tokens = words((answer.content ?? []).map(textOf).join(" ")).length;
  return {
    finish_reason: answer.tool_calls ? "TOOL_CALL" : "COMPLETE",
    // The template's own tokens are free.
    usage: {
      billed_units: { input_tokens, output_tokens },
      tokens: { input_tokens: input_tokens + 100, output_tokens },
      cached_tokens: 0,
    },
    ...answer,
  };
}

/** In Cohere's order: start, the plan, each block from start to end, each call, the citations, the end. */
function* eventsOf(answer: WholeAnswer): Generator<Fields> {
  const { content = [], tool_plan = "", tool_calls = [], citations = [], logprobs } = answer;
  const delta = (message: Fields) => ({ delta: { message } });
  yield {
    id: newId(),
    type: "message-start",
    ...delta({ role: "assistant", content: [], tool_plan: "", tool_calls: [], citations: [] }),
  };
  for (const plan of words(tool_plan)) {
    yield { type: "tool-plan-delta", ...delta({ tool_plan: plan }) };
  }
  for (const [index, block] of content.entries()) {
    const field = block.type;
    const begun = { type: field, [field]: "" };
    yield { type: "content-start", index, ...delta({ content: begun }) };
    for (const [at, word] of words(textOf(block)).entries()) {
      const told = field === "text" && logprobs?.[at];
      const said = delta({ content: { [field]: word } });
      yield { type: "content-delta", index, ...said, ...(told && { logprobs: told }) };
    }
    yield { type: "content-end", index };
  }
  for (const [index, call] of tool_calls.entries()) {
    const begun = { ...call, function: { ...call.function, arguments: "" } };
    yield { type: "tool-call-start", index, ...delta({ tool_calls: begun }) };
    for (const piece of call.function.arguments.match(/.{1,5}/gs) ?? []) {
      const pieces = { function: { arguments: piece } };
      yield { type: "tool-call-delta", index, ...delta({ tool_calls: pieces }) };
    }
    yield { type: "tool-call-end", index };
  }
  for (const [index, citation] of citations.entries()) {
    yield { type: "citation-start", index, ...delta({ citations: citation }) };
    yield { type: "citation-end", index };
  }
  const { finish_reason, usage } = answer;
  yield { type: "message-end", delta: { finish_reason, usage } };
}

async function streamAnswer(
  response: ServerResponse,
  answer: WholeAnswer,
  fault: Fault,
): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  let written = 0;
  for (const event of eventsOf(answer)) {
    const frame = `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
    if (written++ === fault.argument) {
      if (fault.name === "cut") {
        response.write(frame.slice(0, 20));
        // What was written before a cut arrives; a receiver drops what comes together with it.
        await new Promise((resolve) => setTimeout(resolve, 20));
        response.socket?.destroy();
        return;
      }
      if (fault.name === "end") break;
      if (fault.name === "error") {
        const end = {
          type: "message-end",
          delta: { error: "the model is overloaded", finish_reason: "ERROR" },
        };
        response.end(`event: message-end\ndata: ${JSON.stringify(end)}\n\n`);
        return;
      }
    }
    if (fault.name === "split") await writeInPieces(response, Buffer.from(frame));
    else response.write(frame);
  }
  response.end("data: [DONE]\n\n");
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(textOf).join(" ");
  const { text, thinking } = (value ?? {}) as { text?: string; thinking?: string };
  return text ?? thinking ?? "";
}

let answers = 0;
function newId(): string {
  return `c0ffee00-0000-4000-8000-${String(++answers).padStart(12, "0")}`;
}

function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, { id: newId(), message });
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function writeInPieces(response: ServerResponse, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 7) {
    response.write(bytes.subarray(at, at + 7));
    await new Promise(setImmediate);
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

const messages: Readonly<Record<number, string>> = {
  400: "invalid request: the request is not valid",
  401: "invalid api token",
  402: "Please add or update your payment method to continue",
  404: "model 'm' not found, make sure the correct model ID was used and that you have access to the model.",
  429: "You are past the per minute request limit, please wait and try again later.",
  498: "blocked output: a token on the deny list",
};
