/**
 * Emulates OpenAI's moderations, images and audio on loopback, for tests. Written from the published wire format
 * (platform.openai.com/docs/api-reference, read off the official SDK 7.57 on 2026-11-21). What it makes is nothing to look
 * at or listen to; what it tells of usage is fixed. A model's name asks for faults: `any-model!status:500`.
 */
import { hash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type MediaRequest = {
  path: string;
  headers: IncomingMessage["headers"];
  /** Of JSON, or the texts of a form; of several with one name all. */
  fields: Record<string, unknown>;
  files: { name: string; filename: string; type: string; bytes: number; sha256: string }[];
};

export type MediaEmulator = {
  baseUrl: string;
  /** Newest last. */
  requests: MediaRequest[];
  /** Answers that the other side broke off. */
  aborts: string[];
  server: Server;
  close(): Promise<void>;
};

/** What it tells, and what it makes. */
export const emulated = {
  image: Buffer.from("emulated image ".repeat(20)),
  audio: Buffer.from(Array.from({ length: 5000 }, (_, index) => index % 251)),
  transcript: "The parcel is on its way.",
  imageUsage: {
    input_tokens: 50,
    input_tokens_details: { text_tokens: 10, image_tokens: 40 },
    output_tokens: 1056,
    output_tokens_details: { image_tokens: 1056, text_tokens: 0 },
    total_tokens: 1106,
  },
  speechUsage: { input_tokens: 14, output_tokens: 101, total_tokens: 115 },
  transcriptUsage: {
    type: "tokens",
    input_tokens: 90,
    input_token_details: { text_tokens: 10, audio_tokens: 80 },
    output_tokens: 7,
    total_tokens: 97,
  },
  seconds: 8.47,
} as const;

/** Listens on a free port of 127.0.0.1. Only `Bearer sk-media` is let in. */
export async function startMediaEmulator(): Promise<MediaEmulator> {
  const requests: MediaRequest[] = [];
  const aborts: string[] = [];
  const server = createServer((request, response) => {
    response.on("close", () => {
      if (!response.writableFinished) aborts.push(request.url ?? "");
    });
    serve(request, response, requests).catch((error) => {
      if (!response.headersSent) sendError(response, 400, String(error));
      else response.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    requests,
    aborts,
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type Asked = { model: string; fault: string | undefined; argument: number } & MediaRequest;

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  requests: MediaRequest[],
): Promise<void> {
  const read = await readRequest(request);
  requests.push(read);
  if (request.headers.authorization !== "Bearer sk-media") {
    return sendError(response, 401, "Incorrect API key provided: sk-emul***.");
  }
  const answer = request.method === "POST" ? endpoints[read.path] : undefined;
  if (!answer) return sendError(response, 404, `Unknown request URL: ${read.path}.`);
  const [model = "", fault, argument] = String(read.fields.model ?? "").split(/[!:]/);
  const asked = { ...read, model, fault, argument: Number(argument ?? 0) };
  switch (fault) {
    case "status":
      return sendError(response, asked.argument, "The emulator was asked to fail.");
    case "reset":
      response.socket?.resetAndDestroy();
      return;
    case "html":
      response.writeHead(200, { "content-type": "text/html" }).end("<h1>Hello</h1>");
      return;
    case "error-200":
      return sendJson(response, { error: { message: "inside a 200", type: "server_error" } });
    case "never":
      return;
    default:
      await answer(asked, response);
  }
}

const endpoints: Record<string, (asked: Asked, response: ServerResponse) => Promise<void> | void> =
  {
    "/v1/moderations": moderate,
    "/v1/images/generations": (asked, response) => makeImages(asked, response, "image_generation"),
    "/v1/images/edits": (asked, response) => makeImages(asked, response, "image_edit"),
    "/v1/images/variations": (asked, response) => makeImages(asked, response, "image_edit"),
    "/v1/audio/speech": speak,
    "/v1/audio/transcriptions": transcribe,
    "/v1/audio/translations": transcribe,
  };

function moderate({ fields, model }: Asked, response: ServerResponse): void {
  const { input } = fields;
  const texts = Array.isArray(input) && typeof input[0] === "string" ? input : [input];
  const results = texts.map((text) => {
    const flagged = JSON.stringify(text).includes("kill");
    const of = <T>(yes: T, no: T) =>
      Object.fromEntries(categories.map((it) => [it, it === "violence" && flagged ? yes : no]));
    return {
      flagged,
      categories: of(true, false),
      category_scores: of(0.99, 0.001),
      category_applied_input_types: of(["text"], []),
    };
  });
  sendJson(response, { id: "modr-emulated", model, results });
}

async function makeImages(asked: Asked, response: ServerResponse, kind: string): Promise<void> {
  const { fields, files, fault } = asked;
  if (kind === "image_edit" && files.length === 0 && !fields.images) {
    return sendError(response, 400, "Missing required parameter: 'image'.");
  }
  const n = Number(fields.n ?? 1);
  // Older models tell no usage: they are billed by the image.
  const usage = fault === "no-usage" ? undefined : emulated.imageUsage;
  const made = { b64_json: emulated.image.toString("base64") };
  const shared = {
    background: "opaque",
    output_format: "png",
    quality: "low",
    size: "1024x1024",
  };
  if (String(fields.stream) !== "true") {
    const data = Array.from({ length: n }, () => made);
    return sendJson(response, { created: 1, ...shared, data, ...(usage && { usage }) });
  }
  const events: { type: string; [field: string]: unknown }[] = [];
  for (let index = 0; index < Number(fields.partial_images ?? 0); index++) {
    const type = `${kind}.partial_image`;
    events.push({ type, ...made, ...shared, created_at: 1, partial_image_index: index });
  }
  const type = `${kind}.completed`;
  events.push({ type, ...made, ...shared, created_at: 1, ...(usage && { usage }) });
  await sendEvents(response, events, fault);
}

async function speak({ fields, fault }: Asked, response: ServerResponse): Promise<void> {
  const { audio, speechUsage } = emulated;
  const pieces = [audio.subarray(0, 2000), audio.subarray(2000)];
  if (fields.stream_format === "sse") {
    const events = [
      ...pieces.map((piece) => ({
        type: "speech.audio.delta",
        audio: piece.toString("base64"),
      })),
      { type: "speech.audio.done", ...(fault !== "no-usage" && { usage: speechUsage }) },
    ];
    return sendEvents(response, events, fault);
  }
  response.writeHead(200, { "content-type": "audio/mpeg" });
  for (const piece of pieces) {
    await new Promise<void>((resolve) => response.write(piece, () => resolve()));
    if (fault === "cut") return void response.socket?.destroy();
  }
  response.end();
}

async function transcribe(asked: Asked, response: ServerResponse): Promise<void> {
  const { fields, files, fault, path } = asked;
  if (!files.some(({ name }) => name === "file")) {
    return sendError(response, 400, "Missing required parameter: 'file'.");
  }
  const { transcript: text, transcriptUsage, seconds } = emulated;
  const duration = { type: "duration", seconds: Math.ceil(seconds) };
  const byTime = fault === "by-time";
  const usage = fault === "no-usage" ? undefined : byTime ? duration : transcriptUsage;
  if (String(fields.stream) === "true") {
    const words = text.match(/\s*\S+/g) ?? [];
    const events = [
      ...words.map((delta) => ({ type: "transcript.text.delta", delta })),
      { type: "transcript.text.done", text, ...(usage && { usage }) },
    ];
    return sendEvents(response, events, fault);
  }
  const cue = (mark: string) => `00:00:00${mark}000 --> 00:00:08${mark}470\n${text}\n\n`;
  switch (fields.response_format ?? "json") {
    case "text":
      return sendText(response, `${text}\n`);
    case "srt":
      return sendText(response, `1\n${cue(",")}`);
    case "vtt":
      return sendText(response, `WEBVTT\n\n${cue(".")}`);
    case "verbose_json": {
      const task = path.endsWith("translations") ? "translate" : "transcribe";
      const segments = [{ id: 0, start: 0, end: seconds, text }];
      const whole = { task, language: "english", duration: seconds, text, segments };
      return sendJson(response, { ...whole, ...(fault !== "no-usage" && { usage: duration }) });
    }
    default:
      return sendJson(response, { text, ...(usage && { usage }) });
  }
}

async function sendEvents(
  response: ServerResponse,
  events: readonly { type: string }[],
  fault: string | undefined,
): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  for (const [index, event] of events.entries()) {
    if (index === 1 && fault === "cut") return void response.socket?.destroy();
    if (index === 1 && fault === "error-event") {
      const error = { type: "error", error: { message: "overloaded", type: "server_error" } };
      response.end(`event: error\ndata: ${JSON.stringify(error)}\n\n`);
      return;
    }
    const frame = `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
    await new Promise<void>((resolve) => response.write(frame, () => resolve()));
    if (fault === "stall") return;
  }
  response.end();
}

async function readRequest(request: IncomingMessage): Promise<MediaRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const type = request.headers["content-type"] ?? "";
  const shared = { path: request.url ?? "", headers: request.headers };
  if (!type.startsWith("multipart/")) {
    return { ...shared, fields: JSON.parse(body.toString("utf8")), files: [] };
  }
  // The parser of the platform, which is none of ours.
  const form = await new Response(body, { headers: { "content-type": type } }).formData();
  const fields: Record<string, unknown> = {};
  const files: MediaRequest["files"] = [];
  for (const [name, value] of form) {
    if (typeof value === "string") {
      const all = form.getAll(name);
      fields[name] = all.length > 1 ? all : value;
      continue;
    }
    const bytes = Buffer.from(await value.arrayBuffer());
    const facts = { filename: value.name, type: value.type, bytes: bytes.length };
    files.push({ name, ...facts, sha256: hash("sha256", bytes) });
  }
  return { ...shared, fields, files };
}

function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function sendText(response: ServerResponse, text: string): void {
  response.writeHead(200, { "content-type": "text/plain; charset=utf-8" }).end(text);
}

function sendError(response: ServerResponse, status: number, message: string): void {
  const type = status >= 500 ? "server_error" : "invalid_request_error";
  sendJson(response, { error: { message, type, param: null, code: null } }, status);
}

const categories = [
  "hate",
  "hate/threatening",
  "harassment",
  "harassment/threatening",
  "illicit",
  "illicit/violent",
  "self-harm",
  "self-harm/intent",
  "self-harm/instructions",
  "sexual",
  "sexual/minors",
  "violence",
  "violence/graphic",
];
