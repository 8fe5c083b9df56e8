/** DOUBLES of the gateway and the registry for tests of their clients: small real servers on loopback, no logic of ours. */
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { type AddMeasurements, addMeasurements, type Whoami } from "../../sdk/protocol/admin.ts";
import { type Adapter, adapter, type Model, model } from "../../sdk/protocol/catalog.ts";
import { HubError, parseOrThrow, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { type Fetcher, remoteFetcher } from "../../sdk/protocol/http.ts";

export type Listening = Fetcher & { url: string; close(): Promise<void> };

/** Serves a fetch handler on a free port of loopback; the Fetcher goes over the socket. */
export async function listen(app: {
  fetch(request: Request): Response | Promise<Response>;
}): Promise<Listening> {
  const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 });
  await new Promise<void>((resolve) => server.once("listening", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not listening on a port");
  const url = `http://127.0.0.1:${address.port}`;
  return {
    url,
    ...remoteFetcher(url),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        if ("closeAllConnections" in server) server.closeAllConnections();
      }),
  };
}

export type Asked = {
  model: string;
  question: string;
  key: string;
  headers: Headers;
  body: Record<string, unknown>;
};

/** What the gateway's double answers: a text with its headers, or a whole response. */
export type Reply = { text: string | null; headers?: Record<string, string> } | Response;

/** A gateway that answers as `reply` says and remembers what it was asked. */
export async function gatewayDouble(
  reply: (asked: Asked, signal: AbortSignal) => Reply | Promise<Reply>,
): Promise<Listening & { asked: Asked[] }> {
  const asked: Asked[] = [];
  const app = new Hono();
  app.post("/v1/chat/completions", async (c) => {
    const body = await c.req.json();
    const request: Asked = {
      model: body.model,
      question: body.messages.at(-1).content,
      key: bearer(c.req.raw.headers),
      headers: c.req.raw.headers,
      body,
    };
    asked.push(request);
    const answer = await reply(request, c.req.raw.signal);
    if (answer instanceof Response) return answer;
    const completion = {
      id: "chatcmpl-1",
      object: "chat.completion",
      created: 0,
      model: body.model,
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: answer.text, refusal: null },
          logprobs: null,
          finish_reason: "stop",
        },
      ],
      usage: { prompt_tokens: 10, completion_tokens: 4, total_tokens: 14 },
    };
    return c.json(completion, 200, answer.headers);
  });
  return Object.assign(await listen(app), { asked });
}

export type RegistryState = {
  keys: Record<string, Whoami>;
  models: Model[];
  adapters: Adapter[];
  measurements: AddMeasurements["measurements"];
  /** Thrown instead of taking measurements, while a test sets it. */
  measurementsBroken?: HubError | undefined;
};

/** A registry that knows what `state` holds and takes measurements by the schema. */
export async function registryDouble(state: RegistryState): Promise<Listening> {
  const app = new Hono();
  app.use(async (c, next) => {
    if (!state.keys[bearer(c.req.raw.headers)]) {
      throw new HubError("invalid_api_key", "Incorrect API key provided.");
    }
    await next();
  });
  app.get("/api/whoami", (c) => c.json(state.keys[bearer(c.req.raw.headers)]));
  app.get("/api/models", (c) => c.json(page(state.models.map((one) => model.parse(one)))));
  app.get("/api/adapters", (c) => c.json(page(state.adapters.map((one) => adapter.parse(one)))));
  app.post("/api/measurements", async (c) => {
    if (state.measurementsBroken) throw state.measurementsBroken;
    state.measurements.push(...parseOrThrow(addMeasurements, await c.req.json()).measurements);
    return c.json(page([]), 201);
  });
  app.onError((error) => toErrorResponse(error));
  return listen(app);
}

function page<T extends { id: string }>(data: T[]) {
  return {
    object: "list",
    data,
    has_more: false,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

function bearer(headers: Headers): string {
  return (headers.get("authorization") ?? "").replace(/^Bearer /, "");
}
