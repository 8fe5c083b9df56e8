/** Requests over a bare socket: a client that takes a few microseconds, so that what it asks is what is measured. */
import { createConnection, type Socket } from "node:net";

export type Asked = {
  origin: string;
  path: string;
  headers: Record<string, string>;
  body: string;
};

/** A request as it goes over the wire; without a key it has the headers alone. */
export function writeRequest({ origin, path, headers, body }: Asked, key?: string): string {
  const all = { host: new URL(origin).host, ...headers, ...(key && { authorization: key }) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const length = Buffer.byteLength(body);
  return `POST ${path} HTTP/1.1\r\n${lines.join("")}content-length: ${length}\r\n\r\n${body}`;
}

export type Answer = { status: number; text: () => string };

/** One connection with at most one request on its way; the next one goes over it too. */
export class RawConnection {
  readonly #socket: Socket;
  readonly #told: Told;
  #bytes: Buffer | undefined;

  constructor(origin: string, told: Told) {
    const { hostname, port } = new URL(origin);
    this.#told = told;
    this.#socket = createConnection({ host: hostname, port: Number(port), noDelay: true });
    this.#socket.on("data", (chunk) => this.#take(chunk));
    this.#socket.on("error", (error) => told.failed(error));
    this.#socket.on("end", () => told.failed(new Error("the connection was closed")));
  }

  send(request: string): void {
    this.#bytes = undefined;
    this.#socket.write(request);
  }

  close(): void {
    this.#socket.removeAllListeners();
    this.#socket.on("error", () => {});
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    const bytes = this.#bytes ? Buffer.concat([this.#bytes, chunk]) : chunk;
    const status = statusWhenWhole(bytes);
    if (status === undefined) {
      this.#bytes = bytes;
      this.#told.part?.();
      return;
    }
    this.#bytes = undefined;
    this.#told.answered({ status, text: () => bytes.toString() });
  }
}

type Told = {
  answered: (answer: Answer) => void;
  failed: (error: Error) => void;
  /** Something is here, and more is to come. */
  part?: () => void;
};

/** @returns undefined while there is more to come */
function statusWhenWhole(bytes: Buffer): number | undefined {
  const end = bytes.indexOf(emptyLine);
  if (end === -1) return undefined;
  const head = bytes.toString("latin1", 0, end);
  const length = contentLength.exec(head)?.[1];
  const whole =
    length === undefined
      ? bytes.length > end + 4 && bytes.subarray(-lastChunk.length).equals(lastChunk)
      : bytes.length >= end + 4 + Number(length);
  return whole ? Number(head.slice(9, 12)) : undefined;
}

const emptyLine = Buffer.from("\r\n\r\n");
const lastChunk = Buffer.from("0\r\n\r\n");
const contentLength = /^content-length: *(\d+)/im;
