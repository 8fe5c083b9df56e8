/** Node's HTTP server over a fetch handler; what never becomes a request is refused in the envelope too. */
import {
  createServer,
  type IncomingMessage,
  maxHeaderSize,
  type Server,
  ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, RequestError } from "@hono/node-server";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";

/** The caller lets it listen and closes it. */
export function createHttpServer(
  fetch: (request: Request) => Response | Promise<Response>,
): Server {
  const listener = getRequestListener(fetch, { errorHandler: answerUnreadable });
  const server = createServer((incoming, outgoing) => {
    outgoing.once("finish", () => discardRest(incoming));
    return listener(incoming, outgoing);
  });
  server.on("clientError", answerBroken);
  return server;
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

/** Bytes that are no HTTP, or too many of them. */
function answerBroken(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy(error);
    return;
  }
  const answer = "_httpMessage" in socket ? socket._httpMessage : null;
  if (!(answer instanceof ServerResponse)) {
    void writeRefusal(socket, refusalOf(error));
    return;
  }
  // In the middle of an answer a refusal would not be understood: that answer is the last, and the rest unread.
  socket.removeAllListeners("data").resume();
  answer.once("finish", () => socket.end());
}

function refusalOf({ code }: NodeJS.ErrnoException): HubError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new HubError(
        "request_too_large",
        `The request's headers are larger than ${maxHeaderSize} bytes, which is the most that is accepted.`,
      );
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new HubError("invalid_value", "The request did not arrive within the time for it.");
    default:
      return new HubError("invalid_value", "What was sent is not a valid HTTP request.");
  }
}

async function writeRefusal(socket: Duplex, refusal: HubError): Promise<void> {
  const response = toErrorResponse(refusal, { connection: "close" });
  const body = await response.text();
  const headers = [...response.headers, ["content-length", String(Buffer.byteLength(body))]];
  const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const status = `${response.status} ${STATUS_CODES[response.status]}`;
  socket.end(`HTTP/1.1 ${status}\r\n${head}\r\n${body}`);
}
