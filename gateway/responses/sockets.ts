/**
 * `GET /v1/responses` as a WebSocket, on which a client asks for one response after another. Each of them goes the way of
 * a `POST /v1/responses` through the gateway's own door, so keys, limits, guardrails and the ledger know no difference.
 * @see https://developers.openai.com/api/docs/guides/websocket-mode, read 2026-11-22
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { RawData, WebSocket } from "ws";
import { WebSocketServer } from "ws";
import { z } from "zod";
import {
  asHubError,
  type ErrorBody,
  type ErrorCode,
  errorTable,
  HubError,
  parseOrThrow,
  toErrorBody,
} from "../../sdk/protocol/errors.ts";
import { abortableRequest, inProcessOrigin } from "../../sdk/protocol/http.ts";
import { SseParser } from "../../sdk/protocol/sse.ts";
import type { AppParts } from "../app.ts";
import type { GatewayLimits } from "../config.ts";
import { parseJsonText, refuseDeeper } from "../http/body.ts";
import { clientAddressOf, noteSameAddress } from "../http/client-address.ts";
import { credentialOf } from "../http/credential.ts";
import { mayLoseNumbers, writeJson } from "../http/json-text.ts";
import { type Upgrade, writeRefusal } from "../http/server.ts";
import {
  closeCodeOf,
  keepAlive,
  lateMessage,
  notText,
  requestOfUpgrade,
  send,
  textOf,
} from "../http/websocket.ts";
import { limitMessages } from "../http/websocket-messages.ts";
import { TenantPlaces } from "../tenant-places.ts";
import { askOn, openRecollections, type Recollection } from "./recollection.ts";

export type ResponseSockets = {
  upgrade: Upgrade;
  /** Lets what is under way come to its end, and closes each connection after that. */
  close(): void;
};

export type ResponseSocketsOptions = Pick<
  AppParts,
  "identity" | "wrongKeys" | "limits" | "logger" | "metrics"
> & {
  /** The gateway's door. */
  ask: (request: Request) => Response | Promise<Response>;
};

export const responsesPath = "/v1/responses";

export function createResponseSockets(options: ResponseSocketsOptions): ResponseSockets {
  const { identity, wrongKeys, limits, logger, metrics } = options;
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: limits.responseMessageBytesMax,
    perMessageDeflate: false,
    handleProtocols: () => false,
  });
  const open = new Set<ResponseSocket>();
  const places = new TenantPlaces({
    max: limits.responseSocketsMax,
    perProjectMax: limits.responseSocketsPerProjectMax,
    what: "connections for responses",
  });
  const openRecollection = openRecollections(limits);
  let farewell: HubError | undefined;

  function accept(incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    const request = requestOfUpgrade(incoming);
    const credential = credentialOf(request);
    identity.refuseOutside(credential, {
      method: "POST",
      path: responsesPath,
      address: clientAddressOf(incoming),
    });
    const { project } = identity.identifyProject(credential);
    if (farewell) throw farewell;
    const leave = places.take(project.id);
    // A handshake that is none leaves by its connection's end.
    socket.once("close", leave);
    server.handleUpgrade(incoming, socket, head, (client) => {
      const recollection = openRecollection();
      const opened = new ResponseSocket({ ...options, client, incoming, request, recollection });
      limitMessages(client, socket, {
        timeoutMs: limits.socketMessageTimeoutMs,
        late: () => opened.end(lateMessage(limits.socketMessageTimeoutMs)),
      });
      open.add(opened);
      client.once("close", () => open.delete(opened));
    });
  }

  return {
    upgrade(incoming, socket, head) {
      try {
        accept(incoming, socket, head);
      } catch (thrown) {
        const error = asHubError(thrown);
        const { status, code } = error;
        const tooMany = wrongKeys.hold(error, clientAddressOf(incoming));
        if (tooMany) metrics.wrongKeysHeld.inc();
        else {
          logger.info({ code, error: error.unquoted }, "no connection for responses");
          metrics.requests.add(1, "", "refused", String(status), code);
        }
        if (socket.writable) void writeRefusal(socket, tooMany ?? error);
        else socket.destroy();
      }
    },
    close() {
      farewell = new HubError(
        "shutting_down",
        "This gateway is shutting down. Try again in a moment.",
      );
      for (const socket of open) socket.leave(farewell);
    },
  };
}

type ResponseSocketParts = Pick<ResponseSocketsOptions, "ask" | "limits" | "logger"> & {
  client: WebSocket;
  incoming: IncomingMessage;
  /** That opened it; its headers are those of each response. */
  request: Request;
  recollection: Recollection;
};

class ResponseSocket {
  readonly #parts: ResponseSocketParts;
  readonly #headers: Headers;
  readonly #gone = new AbortController();
  #isBusy = false;
  /** Of messages that came meanwhile; not yet sent. */
  #refusals = 0;
  /** Why the connection ends when what is under way has ended. */
  #farewell: HubError | undefined;

  constructor(parts: ResponseSocketParts) {
    this.#parts = parts;
    this.#headers = headersFor(parts.request);
    const { client, limits, recollection } = parts;
    const tooLong = () => this.leave(lastedLongEnough());
    const timers = [
      setTimeout(tooLong, limits.responseSocketMs),
      keepAlive(client, limits.keepAliveMs),
    ];
    client.on("message", (data, isBinary) => void this.#take(data, isBinary));
    client.on("error", () => client.terminate());
    client.once("close", () => {
      for (const timer of timers) clearTimeout(timer);
      this.#gone.abort();
      recollection.forget();
    });
  }

  /** Ends the connection, at once or when what is under way has ended, and tells the client why. */
  leave(error: HubError): void {
    const { client, limits } = this.#parts;
    this.#farewell = error;
    setTimeout(() => client.terminate(), limits.drainTimeoutMs).unref();
    if (!this.#isBusy) this.end(error);
  }

  /** At once, whatever is under way. */
  end(error: HubError): void {
    const { client } = this.#parts;
    void this.#tell(error);
    client.close(closeCodeOf(error), error.code);
    setTimeout(() => client.terminate(), closeMs).unref();
  }

  /** Never rejects. */
  async #take(data: RawData, isBinary: boolean): Promise<void> {
    if (this.#isBusy) return this.#refuse();
    this.#isBusy = true;
    try {
      if (isBinary) throw notText();
      await this.#respond(textOf(data));
    } catch (thrown) {
      if (!this.#gone.signal.aborted) await this.#tell(thrown);
    } finally {
      this.#isBusy = false;
      if (this.#farewell) this.end(this.#farewell);
    }
  }

  /** Never rejects. Who asks on and reads no answer is left, or what waits for it would grow without end. */
  async #refuse(): Promise<void> {
    const { client, limits } = this.#parts;
    if (this.#refusals >= limits.responseRefusalsMax) return client.terminate();
    this.#refusals++;
    await this.#tell(underWay());
    this.#refusals--;
  }

  async #respond(text: string): Promise<void> {
    const { ask, limits, incoming, recollection } = this.#parts;
    const asked = readAsked(text, limits);
    const request = abortableRequest(inProcessOrigin + responsesPath, {
      method: "POST",
      headers: this.#headers,
      body: asked.body,
      signal: this.#gone.signal,
    });
    noteSameAddress(request, incoming);
    let isGood = false;
    try {
      const response = await ask(askOn(request, recollection));
      isGood = response.ok && (await this.#relay(response));
      if (!response.ok) await this.#tellRefusal(response);
    } finally {
      // What failed is not gone on from: its client begins anew.
      if (!isGood && asked.continues) recollection.forget();
    }
  }

  /** @returns whether the response came to a good end */
  async #relay({ body }: Response): Promise<boolean> {
    const { client, limits } = this.#parts;
    const parser = new SseParser({ frameBytesMax: limits.answerBytesMax });
    let failure: string | undefined;
    let isGood = true;
    for await (const chunk of body ?? []) {
      for (const { event, data } of parser.push(chunk)) {
        if (event === "error") failure = data;
        else if (data !== "[DONE]") {
          if (event === "response.failed") {
            failure = undefined;
            isGood = false;
          }
          await send(client, data);
        }
      }
    }
    // Whoever reads an error here takes it for the end, so it is told only where no failed response follows it.
    if (failure === undefined) return isGood;
    await send(client, toFailure(failure));
    return false;
  }

  async #tellRefusal(response: Response): Promise<void> {
    const { error } = (await response.json()) as ErrorBody;
    await this.#send(response.status, error);
  }

  async #tell(thrown: unknown): Promise<void> {
    const error = asHubError(thrown);
    if (error.code === "internal_error") {
      this.#parts.logger.error({ error: (thrown as Error)?.stack }, "a connection for responses");
    }
    await this.#send(error.status, toErrorBody(error).error);
  }

  #send(status: number, error: ErrorBody["error"]): Promise<void> {
    return send(this.#parts.client, JSON.stringify({ type: "error", status, error }));
  }
}

/** What the client asks for, as the body of a request that is answered by a stream. */
function readAsked(text: string, limits: GatewayLimits): { body: string; continues: boolean } {
  const json = parseJsonText(text, limits);
  refuseDeeper(json, limits.nestingMax);
  const value = parseOrThrow(createEvent, json.value);
  const unserved = value.background
    ? "background"
    : ["stream_id", "generate"].find((name) => (value[name] ?? true) !== true);
  if (unserved) throw notOnSocket(unserved);
  const { type, stream, stream_options, background, generate, ...body } = value;
  const source = mayLoseNumbers(text) ? { value, text } : undefined;
  return {
    body: writeJson({ ...body, stream: true }, source),
    continues: value.previous_response_id != null,
  };
}

/** The error of a stream, in the form that it has on a WebSocket. */
function toFailure(data: string): string {
  const told = failure.parse(JSON.parse(data));
  const { code, message, param, type = "server_error" } = told.error ?? told;
  const known = Object.hasOwn(errorTable, String(code));
  const status = known ? errorTable[code as ErrorCode].status : 502;
  return JSON.stringify({ type: "error", status, error: { type, code, message, param } });
}

/** What said how the connection is to be opened, or was meant for one request alone, is not said again. */
function headersFor({ headers }: Request): Headers {
  const kept = new Headers();
  for (const [name, value] of headers) if (!ofConnection.test(name)) kept.set(name, value);
  kept.set("content-type", "application/json");
  return kept;
}

const ofConnection =
  /^(?:sec-websocket-.*|connection|upgrade|host|origin|expect|te|trailer|transfer-encoding|content-.*|keep-alive|idempotency-key)$/;

function notOnSocket(param: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is not supported on a WebSocket of this gateway.`,
    { param },
  );
}

/** As OpenAI tells it, which clients that open another connection by themselves look for. */
function lastedLongEnough(): HubError {
  return new HubError(
    "websocket_connection_limit_reached",
    "The connection has lasted as long as it may. Open another one to continue.",
  );
}

function underWay(): HubError {
  return new HubError(
    "invalid_state",
    "A response is under way on this connection. Wait for its end, or open another connection.",
  );
}

const createEvent = z.looseObject({ type: z.literal("response.create") });
const told = z.looseObject({
  type: z.string().optional(),
  code: z.string().nullish(),
  message: z.string(),
  param: z.string().nullish(),
});
/** SDKs of one age read the fields there, those of another below `error`. */
const failure = z.union([z.looseObject({ error: told }), told.extend({ error: z.undefined() })]);
const closeMs = 2_000;
