/**
 * An upstream whose every byte a case decides, on loopback: what reports of incompatibilities are about is exactly what
 * servers send, wrong as it is, so nothing here knows a format.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type WireRequest = {
  path: string;
  headers: IncomingMessage["headers"];
  /** As it came, for what JSON would change. */
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a case looks at whatever it is about
  body: any;
};

/** What one model's upstream does with a request. */
export type WireAnswer = (response: ServerResponse, request: WireRequest) => void | Promise<void>;

export type Wire = {
  /** With `/v1`, as settings want it. */
  baseUrl: string;
  /** The requests that a model got, oldest first. */
  requestsOf(model: string): WireRequest[];
  close(): Promise<void>;
};

/** @param answers by the model's name, as the request's body has it */
export async function startWire(answers: ReadonlyMap<string, WireAnswer>): Promise<Wire> {
  const requests = new Map<string, WireRequest[]>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString("utf8");
      const body = JSON.parse(text);
      const seen = { path: request.url ?? "", headers: request.headers, text, body };
      requests.set(body.model, [...(requests.get(body.model) ?? []), seen]);
      const answer = answers.get(body.model);
      if (answer) void answer(response, seen);
      else response.writeHead(404).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    requestsOf: (model) => requests.get(model) ?? [],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Answers with one JSON body. */
export function json(
  body: unknown,
  status = 200,
  headers: Record<string, string> = {},
): WireAnswer {
  return (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

/** Answers with the frames of a stream, in order; text goes out as it is. */
export function frames(...list: readonly (object | string)[]): WireAnswer {
  return (response) => {
    openEvents(response);
    for (const frame of list) response.write(toFrame(frame));
    response.end();
  };
}

/** Streams where a stream is asked for, and answers whole where it is not. */
export function either(stream: WireAnswer, whole: WireAnswer): WireAnswer {
  return (response, request) => (request.body.stream ? stream : whole)(response, request);
}

export function openEvents(response: ServerResponse): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
}

export function toFrame(frame: object | string): string {
  return typeof frame === "string" ? frame : `data: ${JSON.stringify(frame)}\n\n`;
}

/** A chunk of a chat as OpenAI would send it, with one choice. */
export function chunk(delta: object, finish: string | null = null, more: object = {}): object {
  return {
    id: "chatcmpl-wire",
    object: "chat.completion.chunk",
    created: 1_780_000_000,
    model: "wire",
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
    ...more,
  };
}

export const begin = chunk({ role: "assistant", content: "", refusal: null });
export const done = "data: [DONE]\n\n";
export const usage = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 };

/** Text with all that OpenAI sends around it, usage of a stream where it is asked for. */
export function speak(...texts: readonly string[]): WireAnswer {
  return (response, request) => {
    if (!request.body.stream) return whole({ content: texts.join("") })(response, request);
    const counted = request.body.stream_options?.include_usage
      ? [{ ...chunk({}), choices: [], usage }]
      : [];
    const said = texts.map((content) => chunk({ content }));
    return frames(begin, ...said, chunk({}, "stop"), ...counted, done)(response, request);
  };
}

/** A whole answer with that message. */
export function whole(message: object, finish = "stop", more: object = {}): WireAnswer {
  return json({
    id: "chatcmpl-wire",
    object: "chat.completion",
    created: 1_780_000_000,
    model: "wire",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: null, refusal: null, ...message },
        logprobs: null,
        finish_reason: finish,
      },
    ],
    usage,
    ...more,
  });
}
