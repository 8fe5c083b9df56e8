/**
 * The upstream of the dialects benchmark: speaks each format over bare sockets, because it has to be much quicker than
 * what is measured. A model's name that holds `paced` has its deltas 20 ms apart; others have them as fast as they go.
 */
import { type AddressInfo, createServer, type Socket } from "node:net";
import { PendingBytes } from "../../../../sdk/protocol/pending-bytes.ts";
import { deltasPerStream, formatOfPath, type Wire, wires } from "../wire.ts";

const paceMs = 20;

const server = createServer({ noDelay: true }, (socket) => {
  const pending = new PendingBytes();
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    const bytes = pending.push(chunk);
    const request = readRequest(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    if (!request) return;
    pending.drop(request.length);
    const paced = request.head.includes("paced") || request.body.includes("paced");
    stream(socket, wires[formatOfPath(request.path)], paced);
  });
});
server.listen(0, "127.0.0.1", () =>
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
);

/** One request at a time comes on a connection, its length told. */
function readRequest(bytes: Buffer) {
  const end = bytes.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const head = bytes.toString("latin1", 0, end);
  const from = end + 4;
  const length = from + Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
  if (bytes.length < length) return undefined;
  const path = head.split(" ", 2)[1]?.split("?")[0] ?? "";
  return { head, path, body: bytes.subarray(from, length), length };
}

function stream(socket: Socket, { type, head, delta, tail }: Wire, paced: boolean): void {
  const start = `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n\r\n`;
  const piece = inChunk(delta);
  socket.write(Buffer.concat([Buffer.from(start), inChunk(head), piece]));
  let written = 1;
  const step = (): boolean => {
    if (socket.destroyed) return false;
    if (written++ < deltasPerStream) {
      socket.write(piece);
      return true;
    }
    socket.write(Buffer.concat([inChunk(tail), Buffer.from("0\r\n\r\n")]));
    return false;
  };
  if (paced) {
    const timer = setInterval(() => {
      if (!step()) clearInterval(timer);
    }, paceMs);
    return;
  }
  const soon = () => {
    if (!step()) return;
    if (socket.writableNeedDrain) socket.once("drain", soon);
    else setImmediate(soon);
  };
  setImmediate(soon);
}

function inChunk(bytes: Uint8Array): Buffer {
  if (bytes.length === 0) return Buffer.alloc(0);
  return Buffer.concat([
    Buffer.from(`${bytes.length.toString(16)}\r\n`),
    bytes,
    Buffer.from("\r\n"),
  ]);
}
