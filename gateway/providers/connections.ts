/**
 * The connections of a pool, each of which can be left unread for a while. Undici's own pause cannot be used: its
 * parser, when the other side ends or resets a connection that is not kept, asserts that it is not paused, in a
 * listener where nobody catches it (nodejs/undici#5360). So the parser is given nothing instead.
 */
import type { Socket } from "node:net";
import { buildConnector } from "undici";

export type Connection = {
  /**
   * Takes nothing off it until it is released; the other side is slowed down by that.
   *
   * @param onBroken told when it breaks meanwhile: what had arrived and was not taken is lost then
   */
  hold(onBroken: (error: Error) => void): void;
  release(): void;
};

export type Connections = {
  connect: buildConnector.connector;
  /** The one whose bytes are being parsed, for what is called by the parser. */
  reading(): Connection | undefined;
};

export function openConnections({ connectTimeoutMs }: { connectTimeoutMs: number }): Connections {
  const connect = buildConnector({ timeout: connectTimeoutMs });
  let reading: Connection | undefined;
  return {
    connect(options, callback) {
      connect(options, (...answer) => {
        const socket = answer[1];
        if (socket) {
          const connection = holdable(socket, () => {
            reading = connection;
          });
        }
        callback(...answer);
      });
    },
    reading: () => reading,
  };
}

/** @param onRead called before bytes are taken off the socket, to be parsed at once */
function holdable(socket: Socket, onRead: () => void): Connection {
  let held: ((error: Error) => void) | undefined;
  const read = socket.read.bind(socket);
  socket.read = (size) => {
    // Reading nothing is how a socket starts to fill its buffer, and how it tells its end.
    if (size === 0) return read(0);
    if (held) return null;
    onRead();
    return read(size);
  };
  socket.on("error", (error) => held?.(error));
  return {
    hold(onBroken) {
      held = onBroken;
    },
    release() {
      if (!held) return;
      held = undefined;
      // Not at once: the parser may be what called.
      queueMicrotask(() => {
        if (!socket.destroyed) socket.emit("readable");
      });
    },
  };
}
