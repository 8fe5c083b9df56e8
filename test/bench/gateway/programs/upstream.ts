/**
 * The upstream of the gateway benchmark, over bare sockets, because it has to be ten times quicker than what is measured: a
 * fixed completion at once, and to whoever asks for a stream deltas without end.
 */
import { type AddressInfo, createServer, type Socket } from "node:net";
import { PendingBytes } from "../../../../sdk/protocol/pending-bytes.ts";

const completion = JSON.stringify({
  id: "chatcmpl-bench",
  object: "chat.completion",
  created: 1_790_000_000,
  model: "bench-model",
  choices: [
    {
      index: 0,
      message: { role: "assistant", content: "One to two working days. ".repeat(8), refusal: null },
      logprobs: null,
      finish_reason: "stop",
    },
  ],
  usage: { prompt_tokens: 48, completion_tokens: 48, total_tokens: 96 },
});
const length = Buffer.byteLength(completion);
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n${completion}`,
);
const streamHead = Buffer.from(
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
);
const event = `data: ${JSON.stringify({
  id: "chatcmpl-bench",
  object: "chat.completion.chunk",
  created: 1_790_000_000,
  model: "bench-model",
  choices: [{ index: 0, delta: { content: "word " }, logprobs: null, finish_reason: null }],
})}\n\n`;
const delta = Buffer.from(`${event.length.toString(16)}\r\n${event}\r\n`);
const paceMs = 50;
const emptyLine = Buffer.from("\r\n\r\n");
const asksStream = Buffer.from('"stream":true');

const server = createServer({ noDelay: true }, (socket) => {
  const pending = new PendingBytes();
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    const waiting = pending.push(chunk);
    const bytes = Buffer.from(waiting.buffer, waiting.byteOffset, waiting.length);
    const end = bytes.indexOf(emptyLine);
    if (end === -1) return;
    const head = bytes.toString("latin1", 0, end);
    const size = end + 4 + Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    if (bytes.length < size) return;
    const streamed = bytes.includes(asksStream, end);
    pending.drop(size);
    if (streamed) stream(socket);
    else socket.write(answer);
  });
});
server.listen(0, "127.0.0.1", () =>
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
);

function stream(socket: Socket): void {
  socket.write(streamHead);
  socket.write(delta);
  const timer = setInterval(() => socket.write(delta), paceMs);
  socket.once("close", () => clearInterval(timer));
}
