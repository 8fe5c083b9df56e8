/** Clients that read a byte a second, or nothing: they hold neither the engine nor weights, and little memory. */
import { connect, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import {
  baseId,
  openTestServer,
  operatorKey,
  type TestServer,
  userSays,
} from "../support/adapter-server.ts";
import { eventually } from "../support/api.ts";

let server: TestServer | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server?.close();
});

/** Log-probabilities with all alternatives make a token some two kilobytes, and the answer more than sockets hold. */
const wordy = {
  n: 8,
  model: baseId,
  messages: userSays("Tell me all"),
  temperature: 0,
  max_tokens: 1500,
  ignore_eos: true,
  stream: true,
  logprobs: true,
  top_logprobs: 20,
};

/** Sends a request and then reads nothing, but as many bytes as it is told. */
function slowClient({ url }: TestServer, body: object): Socket {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  const text = JSON.stringify(body);
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${operatorKey}\r\n` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
  socket.on("error", () => {});
  sockets.push(socket);
  return socket;
}

test("clients that read a byte at a time do not keep others, or their own sequence, from ending", async () => {
  server = await openTestServer({ limits: { sequencesMax: 4 } });
  const { engine } = server;
  const slow = Array.from({ length: 4 }, () =>
    slowClient(server as TestServer, { ...wordy, n: 1 }),
  );
  await eventually("them to run", async () => (engine.stats().running === 4 ? true : undefined));
  const reading = setInterval(() => slow.map((socket) => socket.read(1)), 1000);
  // All four places are theirs until their answers are computed, however little of them is read.
  const asked = await server.post("/v1/chat/completions", {
    model: baseId,
    messages: userSays("Hello"),
    max_tokens: 8,
  });
  expect(asked.status).toBe(200);
  await eventually("the engine to be idle", async () => {
    const { running, waiting, blocksUsed } = engine.stats();
    return running + waiting + blocksUsed === 0 ? true : undefined;
  });
  clearInterval(reading);
  for (const socket of slow) expect(socket.bytesRead).toBeLessThan(1 << 20);
});

test("a stream that nobody reads is ended after a while, and lets its adapter go", async () => {
  server = await openTestServer({ limits: { unreadMsMax: 2000 } });
  const { post } = server;
  const name = "support-triage";
  await post("/v1/load_lora_adapter", { lora_name: name, lora_path: name });
  const socket = slowClient(server, { ...wordy, model: name });
  socket.pause();
  // In use: it stays in memory although its name is gone.
  await eventually("its start", async () =>
    server?.engine.stats().running === 8 ? true : undefined,
  );
  await post("/v1/unload_lora_adapter", { lora_name: name });
  expect(await hostAdapters(server)).toBe(1);
  await eventually("the adapter to be dropped", async () =>
    (await hostAdapters(server as TestServer)) === 0 ? true : undefined,
  );
  // The engine tells how it stands a moment after it has done so.
  await eventually("its room", async () => {
    const { running, blocksUsed } = (server as TestServer).engine.stats();
    return running + blocksUsed === 0 ? true : undefined;
  });

  // Should it read on after all, it is told why there is no more.
  let text = "";
  socket.on("data", (bytes) => {
    text += bytes;
  });
  socket.resume();
  await eventually("the end", async () => (text.includes("\r\n0\r\n\r\n") ? true : undefined));
  expect(text).not.toContain("[DONE]");
  expect(text.match(/"code":"request_cancelled"/g)).toHaveLength(1);
  expect(text).toContain("Nothing of the answer was read for 2 s");
});

test("a stream that is read slowly but steadily is whole", async () => {
  server = await openTestServer({ limits: { unreadMsMax: 300 } });
  const response = await server.app.fetch(
    new Request("http://test/v1/chat/completions", {
      method: "POST",
      body: JSON.stringify({ ...wordy, n: 1, max_tokens: 40, top_logprobs: 0 }),
    }),
  );
  const reader = response.body?.getReader();
  let text = "";
  for (;;) {
    const read = await reader?.read();
    if (!read || read.done) break;
    text += new TextDecoder().decode(read.value);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(text).toContain('"finish_reason":"length"');
  expect(text.trimEnd().endsWith("data: [DONE]")).toBe(true);
});

async function hostAdapters({ url }: TestServer): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^switchyard_adapters\{tier="host".*\} (\d+)$/m.exec(text)?.[1]);
}
