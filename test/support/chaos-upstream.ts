/**
 * Stands before emulated providers and ruins their answers, byte by byte, as a model's name asks for: what networks,
 * proxies and broken servers do, and what no HTTP server would write.
 */

import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import { gzipSync } from "node:zlib";

export type ChaosUpstream = {
  /** A provider's address, ruined; `name` is that of its emulator. */
  url(name: string): string;
  /** Answers that were begun or owed and whose connection is still open. */
  open(): number;
  close(): Promise<void>;
};

type Answer = { contentType: string; body: Buffer };
type Asked = { method: string; path: string; headers: Record<string, string>; body: Buffer };
/** Writes what comes in place of the answer. */
type Ruin = (socket: Socket, answer: Answer) => void;

/** @param emulators base URLs by name */
export async function startChaosUpstream(
  emulators: Readonly<Record<string, string>>,
): Promise<ChaosUpstream> {
  const answers = new Map<string, Promise<Answer>>();
  const sockets = new Set<Socket>();
  const owing = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let received = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("close", () => {
      sockets.delete(socket);
      owing.delete(socket);
    });
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      const asked = readRequest(received);
      if (!asked) return;
      received = Buffer.alloc(0);
      owing.add(socket);
      void recorded(asked).then((answer) => {
        const name = Object.keys(ruins).find((it) => asks(asked, it));
        if (name === undefined) throw new Error(`nobody knows the fault in ${asked.path}`);
        if (!socket.destroyed) ruins[name]?.(socket, answer);
      });
    });
  });

  /** The right answer of the emulator, asked for once for each kind. */
  function recorded({ method, path, headers, body }: Asked): Promise<Answer> {
    const [, name = "", ...rest] = path.split("/");
    const base = new URL(emulators[name] ?? "");
    const isStream = /"stream":\s*true|streamGenerate|converse-stream/.test(path + body);
    const kind = `${name} ${rest.at(-1)?.replace(/^.*:/, "")} ${isStream}`;
    const known = answers.get(kind);
    if (known) return known;
    const { "content-length": _, host: __, connection: ___, ...sent } = headers;
    const address = `${base.origin}/${rest.join("/")}`;
    const asking = fetch(address, { method, headers: sent, body: new Uint8Array(body) }).then(
      async (response) => {
        const answered = Buffer.from(await response.arrayBuffer());
        if (response.status !== 200) throw new Error(`${kind}: ${answered}`);
        return { contentType: response.headers.get("content-type") ?? "", body: answered };
      },
    );
    answers.set(kind, asking);
    return asking;
  }

  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  return {
    url: (name) => `http://127.0.0.1:${port}/${name}${new URL(emulators[name] ?? "").pathname}`,
    open: () => owing.size,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** The fault is the model's name, in the body or in the address. */
function asks({ path, body }: Asked, fault: string): boolean {
  return path.includes(`/${fault}/`) || path.includes(`/${fault}:`) || body.includes(`"${fault}"`);
}

function readRequest(bytes: Buffer): Asked | undefined {
  const end = bytes.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const body = bytes.subarray(end + 4);
  if (body.length < Number(headers["content-length"] ?? 0)) return undefined;
  const [method = "", path = ""] = first.split(" ");
  return { method, path, headers, body: Buffer.from(body) };
}

function head(contentType: string, more: readonly string[] = []): string {
  const lines = ["HTTP/1.1 200 OK", `content-type: ${contentType}`, "connection: close", ...more];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** A little before the end, so that an answer has surely begun and is surely not whole. */
function inTheMiddle({ body }: Answer): number {
  return Math.floor(body.length * 0.6);
}

/** Between the bytes of the last character that has several. */
function inACharacter({ body }: Answer): number {
  for (let at = inTheMiddle({ contentType: "", body }); at > 0; at--) {
    if (((body[at] ?? 0) & 0xc0) === 0x80) return at;
  }
  return Math.floor(body.length / 2);
}

const length = (bytes: number) => [`content-length: ${bytes}`];
/** Longer than any answer that is meant, so that an end is seen as too early. */
const tooLong = length(1 << 20);

function write(socket: Socket, ...pieces: (string | Buffer)[]): void {
  for (const piece of pieces) socket.write(piece);
}

const ruins: Record<string, Ruin> = {
  right: (socket, answer) =>
    socket.end(Buffer.concat([Buffer.from(head(answer.contentType)), answer.body])),
  /** Server-sent events alone: half of the frames before the answer, half within it. */
  million: (socket, { contentType, body }) => {
    const nothing = Buffer.from(":\n\n".repeat(500_000));
    const at = body.indexOf("\n\n", Math.floor(body.length / 2)) + 2;
    const parts = [nothing, body.subarray(0, at), nothing, body.subarray(at)];
    socket.end(Buffer.concat([Buffer.from(head(contentType)), ...parts]));
  },
  "stalls-before-head": () => {},
  "stalls-in-head": (socket) => write(socket, "HTTP/1.1 200 OK\r\ncontent-"),
  "stalls-after-head": (socket, { contentType }) => write(socket, head(contentType)),
  "stalls-in-the-middle": (socket, answer) =>
    write(socket, head(answer.contentType), answer.body.subarray(0, inTheMiddle(answer))),
  "closes-at-once": (socket) => socket.end(),
  "resets-at-once": (socket) => socket.resetAndDestroy(),
  "resets-in-the-middle": (socket, answer) => {
    write(socket, head(answer.contentType), answer.body.subarray(0, inTheMiddle(answer)));
    setTimeout(() => socket.resetAndDestroy(), 20);
  },
  "cuts-in-a-frame": (socket, answer) => {
    const sent = answer.body.subarray(0, inTheMiddle(answer));
    write(socket, head(answer.contentType, tooLong), sent);
    setTimeout(() => socket.destroy(), 20);
  },
  "cuts-in-a-character": (socket, answer) => {
    const sent = answer.body.subarray(0, inACharacter(answer));
    write(socket, head(answer.contentType, tooLong), sent);
    setTimeout(() => socket.destroy(), 20);
  },
  "ends-in-the-middle": (socket, answer) =>
    socket.end(
      Buffer.concat([
        Buffer.from(head(answer.contentType)),
        answer.body.subarray(0, inACharacter(answer)),
      ]),
    ),
  "error-in-200": (socket) =>
    socket.end(`${head("application/json")}{"error":{"message":"inside","type":"server_error"}}`),
  "error-in-its-type": (socket, { contentType }) => {
    const error = '{"error":{"message":"inside","type":"server_error"}}';
    const isEvents = contentType.includes("event-stream");
    socket.end(head(contentType) + (isEvents ? `data: ${error}\n\n` : error));
  },
  html: (socket) => socket.end(`${head("text/html")}<html><h1>It works!</h1></html>`),
  "html-in-its-type": (socket, { contentType }) =>
    socket.end(`${head(contentType)}<html><h1>It works!</h1></html>`),
  nothing: (socket, { contentType }) => socket.end(head(contentType, length(0))),
  "nothing-of-no-type": (socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
  "no-content": (socket) => socket.end("HTTP/1.1 204 No Content\r\n\r\n"),
  moves: (socket) =>
    socket.end("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
  "of-another-type": (socket, { body }) =>
    socket.end(Buffer.concat([Buffer.from(head("image/png")), body])),
  "tiny-frames": (socket, { contentType }) => {
    write(socket, head(contentType), ":\n\n".repeat(20_000));
  },
  "a-frame-without-end": (socket, { contentType }) => {
    write(socket, head(contentType), `data: {"choices":[{"delta":{"content":"`);
    const more = Buffer.alloc(64 << 10, "x");
    const on = () => {
      while (!socket.destroyed && socket.write(more));
    };
    socket.on("drain", on);
    on();
  },
  "gzip-bomb": (socket, { contentType }) => {
    const bomb = gzipSync(Buffer.alloc(8 << 20, " "));
    write(socket, head(contentType, ["content-encoding: gzip", ...length(bomb.length)]), bomb);
  },
  "two-lengths": (socket, { contentType, body }) =>
    socket.end(Buffer.concat([Buffer.from(head(contentType, [...length(5), ...length(7)])), body])),
  "length-and-chunks": (socket, { contentType }) =>
    socket.end(`${head(contentType, [...length(5), "transfer-encoding: chunked"])}5\r\nhello`),
  "wrong-chunks": (socket, { contentType }) =>
    socket.end(`${head(contentType, ["transfer-encoding: chunked"])}zz\r\nhello\r\n`),
  "no-http": (socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n"),
  "head-without-end": (socket) => {
    write(socket, `HTTP/1.1 200 OK\r\nx-much: ${"y".repeat(200 << 10)}`);
  },
};

/** Those that are one; `right` and `million` are answers. */
export const faults: readonly string[] = Object.keys(ruins).filter(
  (name) => name !== "right" && name !== "million",
);
