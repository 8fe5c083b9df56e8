/** What every WebSocket of the gateway does: read the request that opens it, keep it alive, send and wait until it is sent. */
import type { IncomingMessage } from "node:http";
import type { RawData, WebSocket } from "ws";
import { type ErrorCode, HubError } from "../../sdk/protocol/errors.ts";

/**
 * A browser cannot set headers: its key comes as the name of a protocol.
 * @throws HubError `invalid_value`
 */
export function requestOfUpgrade({ url = "/", headers }: IncomingMessage): Request {
  const all = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) all.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  const offered = (all.get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim());
  const key = offered.find((name) => name.startsWith(keyProtocol))?.slice(keyProtocol.length);
  if (key && !all.has("authorization")) all.set("authorization", `Bearer ${key}`);
  try {
    return new Request(new URL(url, "http://gateway"), { headers: all });
  } catch (cause) {
    throw new HubError("invalid_value", "The request's address is none.", { cause });
  }
}

/**
 * What a connection is closed with, whichever it is: 1001 where it has lasted long enough and another may be opened at once, as OpenAI
 * closes its own; 1008 where its client did what it may not, be it only to send too slowly; 1011 where we failed, or who is behind us.
 * @see RFC 6455 §7.4.1
 */
export function closeCodeOf({ code, status }: HubError): number {
  if (lastedLongEnough.has(code)) return 1001;
  return status < 500 ? 1008 : 1011;
}

/** A client began a message and did not end it. */
export function lateMessage(timeoutMs: number): HubError {
  return new HubError(
    "request_timeout",
    `A message did not arrive whole within ${timeoutMs} ms. Send it faster, or in smaller messages.`,
  );
}

export function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString("utf8");
  return Buffer.isBuffer(data) ? data.toString("utf8") : Buffer.from(data).toString("utf8");
}

/** Resolves when the socket has taken it; one that is closed takes nothing. */
export function send(socket: WebSocket, text: string): Promise<void> {
  if (socket.readyState !== socket.OPEN) return Promise.resolve();
  return new Promise((resolve) => socket.send(text, () => resolve()));
}

/** A peer that answers no ping is gone, whatever its connection says. */
export function keepAlive(socket: WebSocket, everyMs: number): NodeJS.Timeout {
  let alive = true;
  socket.on("pong", () => {
    alive = true;
  });
  return setInterval(() => {
    if (!alive) return socket.terminate();
    alive = false;
    // A socket that is paused while an event is taken reads no pong.
    if (socket.isPaused) alive = true;
    else socket.ping();
  }, everyMs);
}

export function notText(): HubError {
  return new HubError("invalid_type", "Events are text, and this message was binary.");
}

const lastedLongEnough: ReadonlySet<ErrorCode> = new Set([
  "session_expired",
  "websocket_connection_limit_reached",
  "shutting_down",
]);
const keyProtocol = "openai-insecure-api-key.";
