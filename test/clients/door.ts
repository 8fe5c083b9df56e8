/**
 * Stands before the product while foreign suites run. It passes bytes as they are and keeps what was said, to be held
 * against OpenAI's own document. Where a suite insists on keys and ids of its own, such as `file_id`, it puts real ones in
 * their place: nothing in the product knows of that.
 */
import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
  request as send,
} from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";

export type Exchange = {
  method: string;
  /** Without the query. */
  path: string;
  status: number;
  contentType: string;
  body: string;
};

/** Real ids for a suite's own, made for each request that names them. */
export type Aliases = {
  keys: ReadonlyMap<string, string>;
  /** @returns undefined where there is none */
  idFor(alias: string): Promise<string | undefined> | undefined;
};

export type Door = {
  /** Without a path. */
  url: string;
  exchanges: Exchange[];
  /** While it is set, what suites call things is translated. */
  aliases: Aliases | undefined;
  close(): Promise<void>;
};

/** @param server the product, without a path */
export async function openDoor({ url }: { url: string }): Promise<Door> {
  const target = new URL(url);
  const door: Door = {
    url: "",
    exchanges: [],
    aliases: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  const server = createServer((request, response) => {
    pass({ request, response, target, door }).catch((error: unknown) => {
      response.writeHead(502, { "content-type": "text/plain" }).end(String(error));
    });
  });
  server.on("upgrade", (request, client: Duplex, head) => join({ request, client, head }, target));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  door.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return door;
}

type Passing = { request: IncomingMessage; response: ServerResponse; target: URL; door: Door };

async function pass({ request, response, target, door }: Passing): Promise<void> {
  const { method = "GET" } = request;
  const { aliases } = door;
  const path = aliases ? await realPath(request.url ?? "/", aliases) : (request.url ?? "/");
  const headers = aliases ? realHeaders(request.headers, aliases) : request.headers;
  const isJson = /json/.test(request.headers["content-type"] ?? "");
  const body = aliases && isJson ? await realBody(await read(request), aliases) : undefined;
  const onward = send({
    host: target.hostname,
    port: target.port,
    method,
    path,
    headers: {
      ...headers,
      ...(body !== undefined && { "content-length": Buffer.byteLength(body) }),
    },
  });
  response.on("close", () => onward.destroy());
  onward.on("error", () => response.destroy());
  onward.on("response", (answer) => {
    const kept: Buffer[] = [];
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.on("data", (chunk: Buffer) => {
      kept.push(chunk);
      response.write(chunk);
    });
    answer.on("error", () => response.destroy());
    answer.on("end", () => {
      response.end();
      door.exchanges.push({
        method,
        path: path.split("?")[0] ?? "/",
        status: answer.statusCode ?? 502,
        contentType: answer.headers["content-type"] ?? "",
        body: Buffer.concat(kept).toString(),
      });
    });
  });
  if (body === undefined) request.pipe(onward);
  else onward.end(body);
}

/** A WebSocket passes as it is, and what is said on it is not kept. */
function join(
  { request, client, head }: { request: IncomingMessage; client: Duplex; head: Buffer },
  { hostname, port }: URL,
): void {
  const onward = connect(Number(port), hostname);
  const lines = [`${request.method} ${request.url} HTTP/1.1`];
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    lines.push(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}`);
  }
  onward.write(`${lines.join("\r\n")}\r\n\r\n`);
  onward.write(head);
  const leave = () => {
    onward.destroy();
    client.destroy();
  };
  for (const side of [client, onward]) side.on("error", leave).on("close", leave);
  client.pipe(onward).pipe(client);
}

async function realPath(path: string, { idFor }: Aliases): Promise<string> {
  const [place = "", query] = path.split("?");
  const parts: string[] = [];
  // One after the other: an item is one of the conversation before it.
  for (const part of place.split("/")) {
    parts.push((await idFor(decodeURIComponent(part))) ?? part);
  }
  const real = parts.join("/");
  return query === undefined ? real : `${real}?${query}`;
}

function realHeaders(headers: IncomingMessage["headers"], { keys }: Aliases) {
  const key = keys.get(headers.authorization?.replace(/^Bearer /, "") ?? "");
  return key === undefined ? headers : { ...headers, authorization: `Bearer ${key}` };
}

/** Values that stand for ids, wherever in the body; the same one for the same. */
async function realBody(text: string, { idFor }: Aliases): Promise<string> {
  const found = new Map<string, string>();
  for (const [, value = ""] of text.matchAll(/"([\w.:-]{3,80})"/g)) {
    if (found.has(value)) continue;
    const id = await idFor(value);
    if (id !== undefined) found.set(value, id);
  }
  return text.replace(/(:\s*|\[\s*|,\s*)"([\w.:-]{3,80})"(?!\s*:)/g, (all, before, value) =>
    found.has(value) ? `${before}"${found.get(value)}"` : all,
  );
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
