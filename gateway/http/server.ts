/** Node's HTTP server over a fetch handler; what never becomes a request is refused in the envelope too. */
import {
  createServer,
  IncomingMessage,
  maxHeaderSize,
  type Server,
  ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, RequestError } from "@hono/node-server";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { defaultLimits, type GatewayLimits } from "../config.ts";
import { type AddressRanges, openRanges } from "./address-ranges.ts";
import { noteClientAddress } from "./client-address.ts";

export type ServerLimits = Pick<
  GatewayLimits,
  "headersTimeoutMs" | "requestTimeoutMs" | "connectionsMax"
>;

/** Takes over a connection that asks to become a WebSocket. */
export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/**
 * The caller lets it listen and closes it.
 * @param trustedProxies whose word counts about where a request came from
 */
export function createHttpServer(
  fetch: (request: Request) => Response | Promise<Response>,
  limits: ServerLimits = defaultLimits,
  {
    upgrade,
    trustedProxies = openRanges([]),
  }: { upgrade?: Upgrade; trustedProxies?: AddressRanges } = {},
): Server {
  const requestTimeout = Math.ceil(limits.requestTimeoutMs);
  const headersTimeout = Math.min(Math.ceil(limits.headersTimeoutMs), requestTimeout);
  const listener = getRequestListener(
    (request, { incoming }) => {
      noteClientAddress(request, incoming, trustedProxies);
      return fetch(request);
    },
    { errorHandler: answerUnreadable },
  );
  const server = createServer(
    {
      IncomingMessage: WebSocketOnly,
      headersTimeout,
      requestTimeout,
      connectionsCheckingInterval: Math.ceil(Math.min(headersTimeout, 4000) / 4),
    },
    (incoming, outgoing) => {
      outgoing.once("finish", () => discardRest(incoming));
      return listener(incoming, outgoing);
    },
  );
  server.maxConnections = limits.connectionsMax;
  server.on("clientError", answerBroken);
  if (upgrade) {
    server.on("upgrade", (incoming, socket, head) => {
      // Node hands it over without anybody who hears of its errors.
      socket.on("error", () => socket.destroy());
      noteClientAddress(incoming, incoming, trustedProxies);
      upgrade(incoming, socket, head);
    });
  }
  return server;
}

/**
 * Some clients offer HTTP/2 with each request (`Upgrade: h2c`). Node hands whatever is to be upgraded over, its body
 * unread, so only WebSockets may look as if they were.
 */
class WebSocketOnly extends IncomingMessage {
  private wanted = false;

  get upgrade(): boolean {
    return this.wanted && this.headers.upgrade?.toLowerCase() === "websocket";
  }

  set upgrade(wanted: boolean) {
    this.wanted = wanted;
  }
}

/**
 * A body that was handed on and refused unread holds itself back: Hono then waits in vain for its end, and
 * after half a second closes the connection, on which the client may have sent its next request by then.
 */
function discardRest(incoming: IncomingMessage): void {
  if (incoming.readableEnded) return;
  incoming.removeAllListeners("data");
  incoming.resume();
}

/** Well-formed HTTP whose address or host is none: there is no `Request` to give to the handler. */
function answerUnreadable(error: unknown): Response {
  if (!(error instanceof RequestError)) return toErrorResponse(error);
  return toErrorResponse(
    new HubError("invalid_value", `The request cannot be read: ${error.message}.`),
  );
}

/** Bytes that are no HTTP, too many of them, or too few in the time for them. */
function answerBroken(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy(error);
    return;
  }
  // HTTP/2 without TLS: who speaks it would understand no answer of HTTP/1.1.
  if (error.code === "HPE_PAUSED_H2_UPGRADE") {
    socket.end(http11Required);
    return;
  }
  const answer = "_httpMessage" in socket ? socket._httpMessage : null;
  if (!(answer instanceof ServerResponse) || isStillComing(answer)) {
    void writeRefusal(socket, refusalOf(error));
    return;
  }
  // The rest of its body will never come, and whoever reads it would wait for that.
  if (!answer.req.complete) {
    socket.destroy(error);
    return;
  }
  // In the middle of an answer a refusal would not be understood: that answer is the last, and the rest unread.
  socket.removeAllListeners("data").resume();
  answer.once("finish", () => socket.end());
}

/** Whether the request itself is what broke, and nothing was said to it yet: nobody else will end its wait. */
function isStillComing({ req, headersSent }: ServerResponse): boolean {
  return !req.complete && !headersSent;
}

function refusalOf({ code }: NodeJS.ErrnoException): HubError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new HubError(
        "request_too_large",
        `The request's headers are larger than ${maxHeaderSize} bytes, which is the most that is accepted.`,
      );
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new HubError("request_timeout", "The request did not arrive within the time for it.");
    default:
      return new HubError("invalid_value", "What was sent is not a valid HTTP request.");
  }
}

/** For a connection on which there is no answer to put it into. */
export async function writeRefusal(socket: Duplex, refusal: HubError): Promise<void> {
  const response = toErrorResponse(refusal, { connection: "close" });
  const body = await response.text();
  const headers = [...response.headers, ["content-length", String(Buffer.byteLength(body))]];
  const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const status = `${response.status} ${STATUS_CODES[response.status]}`;
  socket.end(`HTTP/1.1 ${status}\r\n${head}\r\n${body}`);
  // Closed over unread bytes, the connection would be reset, and the refusal lost; but nobody is heard out for long.
  socket.resume();
  setTimeout(() => socket.destroy(), lingerMs).unref();
}

/**
 * An empty SETTINGS frame, as an HTTP/2 server begins, and GOAWAY with HTTP_1_1_REQUIRED and the reason in words.
 * @see RFC 9113 §6.5, §6.8, §7
 */
const http11Required = Buffer.concat([
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
  ...goAway("This server speaks HTTP/1.1. Proxies before it may speak HTTP/2."),
]);

function goAway(reason: string): Buffer[] {
  const words = Buffer.from(reason);
  return [Buffer.from([0, 0, 8 + words.length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xd]), words];
}

const lingerMs = 1000;
