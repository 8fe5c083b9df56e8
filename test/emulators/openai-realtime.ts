/**
 * Emulates OpenAI's realtime sessions on loopback, for tests. Written from the published events
 * (platform.openai.com/docs/api-reference/realtime, read off the official SDK 7.57 on 2026-11-21). It hears nothing and
 * says the same thing each time; what it tells of usage is fixed. A model's name asks for faults: `any-model!cut`.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";

export type RealtimeEmulator = {
  baseUrl: string;
  /** The address and headers of each session that was opened, or refused. */
  asked: { url: string; headers: IncomingMessage["headers"] }[];
  /** Events that came, of all sessions. */
  events: Record<string, unknown>[];
  /** Sessions that are open. */
  open(): number;
  close(): Promise<void>;
};

export const realtimeUsage = {
  total_tokens: 253,
  input_tokens: 132,
  output_tokens: 121,
  input_token_details: {
    text_tokens: 119,
    audio_tokens: 13,
    image_tokens: 0,
    cached_tokens: 64,
    cached_tokens_details: { text_tokens: 64, audio_tokens: 0, image_tokens: 0 },
  },
  output_token_details: { text_tokens: 30, audio_tokens: 91 },
};

export async function startRealtimeEmulator(): Promise<RealtimeEmulator> {
  const asked: RealtimeEmulator["asked"] = [];
  const events: RealtimeEmulator["events"] = [];
  const servers = {
    hearing: new WebSocketServer({ noServer: true }),
    deaf: new WebSocketServer({ noServer: true, autoPong: false }),
  };
  const server = createServer((_, response) => void response.writeHead(404).end());
  server.on("upgrade", (request, socket, head) => {
    const { url = "", headers } = request;
    asked.push({ url, headers });
    const [model = "", fault] = (new URL(url, "http://x").searchParams.get("model") ?? "").split(
      "!",
    );
    const status =
      headers.authorization !== "Bearer sk-media" ? 401 : fault === "refuse" ? 503 : undefined;
    if (status !== undefined) {
      socket.end(`HTTP/1.1 ${status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    servers[fault === "deaf" ? "deaf" : "hearing"].handleUpgrade(
      request,
      socket,
      head,
      (client) => {
        new EmulatedSession(client, { model, fault, events }).begin();
      },
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const clients = () => Object.values(servers).flatMap((one) => [...one.clients]);
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    asked,
    events,
    open: () => clients().length,
    close: () =>
      new Promise((resolve) => {
        for (const client of clients()) client.terminate();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type SessionOptions = {
  model: string;
  fault: string | undefined;
  events: Record<string, unknown>[];
};
type Event = { type: string; [field: string]: unknown };

let count = 0;

class EmulatedSession {
  readonly #socket: WebSocket;
  readonly #options: SessionOptions;
  #transcribes = false;

  constructor(socket: WebSocket, options: SessionOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  begin(): void {
    this.#send({
      type: "session.created",
      session: { type: "realtime", model: this.#options.model },
    });
    this.#socket.on("message", (data) => {
      const event = JSON.parse(data.toString()) as Event;
      this.#options.events.push(event);
      this.#take(event);
    });
  }

  #take(event: Event): void {
    switch (event.type) {
      case "session.update": {
        const { audio } = event.session as { audio?: { input?: { transcription?: object } } };
        this.#transcribes = audio?.input?.transcription != null;
        this.#send({ type: "session.updated", session: event.session });
        return;
      }
      case "conversation.item.create":
        this.#send({ type: "conversation.item.added", item: { id: `item_${++count}` } });
        return;
      // As with turns detected by the server: the answer begins by itself.
      case "input_audio_buffer.commit":
        this.#transcribe();
        this.#respond();
        return;
      case "response.create":
        this.#respond();
        return;
      case "response.cancel":
        this.#done(String(event.response_id), "cancelled");
        return;
    }
  }

  #transcribe(): void {
    if (!this.#transcribes) return;
    this.#send({
      type: "conversation.item.input_audio_transcription.completed",
      item_id: `item_${++count}`,
      content_index: 0,
      transcript: "Where is my parcel?",
      usage: { type: "duration", seconds: 2 },
    });
  }

  #respond(): void {
    const { fault } = this.#options;
    if (fault === "mute") return;
    const id = `resp_emulated_${++count}`;
    this.#send({ type: "response.created", response: { id, status: "in_progress", usage: null } });
    const part = { response_id: id, item_id: `item_${++count}`, output_index: 0, content_index: 0 };
    for (const delta of ["On its", " way."]) {
      this.#send({ type: "response.output_audio_transcript.delta", ...part, delta });
      const audio = Buffer.alloc(4800).toString("base64");
      this.#send({ type: "response.output_audio.delta", ...part, delta: audio });
    }
    if (fault === "cut") this.#socket.terminate();
    else if (fault === "stall") this.#socket.send('{"type":"response.', { fin: false });
    else if (fault === "expire") this.#socket.close(1001, "Your session hit the maximum duration.");
    else if (fault !== "hang" && fault !== "deaf") this.#done(id, "completed");
  }

  #done(id: string, status: string): void {
    const { fault } = this.#options;
    const usage = fault === "no-usage" ? null : realtimeUsage;
    this.#send({ type: "response.done", response: { id, status, output: [], usage } });
    this.#send({ type: "rate_limits.updated", rate_limits: [{ name: "tokens", remaining: 1 }] });
  }

  #send(event: Event): void {
    this.#socket.send(JSON.stringify({ event_id: `event_${++count}`, ...event }));
  }
}
