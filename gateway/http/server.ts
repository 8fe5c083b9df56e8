/** Node's HTTP server over a fetch handler; what never becomes a request is refused in the envelope too. */
import { createServer, maxHeaderSize, type Server, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener, RequestError } from "@hono/node-server";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";

/** The caller lets it listen and closes it. */
export function createHttpServer(
  fetch: (request: Request) => Response | Promise<Response>,
): Server {
  const server = createServer(getRequestListener(fetch, { errorHandler: answerUnreadable }));
  server.on("clientError", answerBroken);
  return server;
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
  // Gone, or in the middle of an answer: nothing that is written now would be understood.
  const answering = "_httpMessage" in socket && socket._httpMessage !== null;
  if (!socket.writable || answering || error.code === "ECONNRESET") {
    socket.destroy(error);
    return;
  }
  void writeRefusal(socket, refusalOf(error));
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
