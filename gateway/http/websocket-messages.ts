/** Bounds how long a message on a WebSocket may take to arrive: what has arrived of it is memory that nobody else can use. */
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";

export type MessageDeadline = {
  /** From a message's first byte to its last; time in which we read nothing does not count. */
  timeoutMs: number;
  /** Called when a message is late. */
  late: () => void;
};

/**
 * To be called as soon as the connection is a WebSocket, before anything is read from it.
 * @param connection what the WebSocket reads from
 */
export function limitMessages(
  socket: WebSocket,
  connection: Duplex,
  { timeoutMs, late }: MessageDeadline,
): void {
  const messages = new MessageFollower();
  let timer: NodeJS.Timeout | undefined;
  /** Of the message that the timer is for. */
  let timed = 0;
  const start = () => {
    timed = messages.ended;
    timer = setTimeout(() => {
      // What we do not read cannot arrive.
      if (socket.isPaused) start();
      else late();
    }, timeoutMs);
  };
  connection.on("data", (chunk: Buffer) => {
    messages.push(chunk);
    if (timer && messages.isOpen && messages.ended === timed) return;
    clearTimeout(timer);
    timer = undefined;
    if (messages.isOpen) start();
  });
  connection.once("close", () => clearTimeout(timer));
}

/**
 * Follows frames by their heads alone. Whether they are as they should be is for others to say.
 * @see RFC 6455 §5.2
 */
export class MessageFollower {
  /** Messages that have come to their end; pings and their like count where they stand between messages. */
  ended = 0;
  readonly #head: number[] = [];
  /** Bytes of the frame's content that are still to come. */
  #left = 0;
  /** Whether the frame is a message's last, or stands for itself. */
  #isLast = true;
  /** Whether a message has begun of which other frames are to come. */
  #isSplit = false;

  /** Whether a message has begun and has not ended. */
  get isOpen(): boolean {
    return this.#isSplit || this.#left > 0 || this.#head.length > 0;
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#left === 0) {
        this.#head.push(chunk[at++] as number);
        this.#readHead();
        continue;
      }
      const taken = Math.min(this.#left, chunk.length - at);
      at += taken;
      this.#left -= taken;
      if (this.#left === 0) this.#endFrame();
    }
  }

  #readHead(): void {
    const [first = 0, second] = this.#head;
    if (second === undefined) return;
    const short = second & 0x7f;
    const lengthBytes = short === 127 ? 8 : short === 126 ? 2 : 0;
    const maskBytes = second & 0x80 ? 4 : 0;
    if (this.#head.length < 2 + lengthBytes + maskBytes) return;
    const length = this.#head.slice(2, 2 + lengthBytes).reduce((sum, byte) => sum * 256 + byte, 0);
    this.#left = lengthBytes === 0 ? short : length;
    this.#head.length = 0;
    // Pings, pongs and the end may stand between the frames of a message.
    const isControl = (first & 0x08) !== 0;
    if (!isControl) this.#isSplit = (first & 0x80) === 0;
    this.#isLast = !this.#isSplit;
    if (this.#left === 0) this.#endFrame();
  }

  #endFrame(): void {
    if (this.#isLast) this.ended++;
  }
}
