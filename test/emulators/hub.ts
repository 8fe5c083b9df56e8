/**
 * Emulates the part of the Hugging Face hub that a download speaks, on loopback: what a revision is,
 * small files from the hub itself, large ones by a redirect to a store on another origin that sends no
 * etag and refuses a token. Written from the published client (huggingface_hub 1.31, read 2026-11-21)
 * and the issues of huggingface/xet-core; it has none of their code. Faults are put into a queue.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** The next request whose path matches has this happen to it; then the fault is spent. */
export type HubFault = { path: RegExp } & (
  | { type: "status"; status: number; headers?: Record<string, string> }
  /** The connection breaks after so many bytes of the body. */
  | { type: "cut"; afterBytes: number }
  /** The body stops after so many bytes, and nothing more is said. */
  | { type: "hang"; afterBytes: number }
  /** One byte of the body is another. */
  | { type: "flip"; atByte: number }
  /** The whole file comes, whatever range was asked for. */
  | { type: "no-range" }
  | { type: "redirect"; to: string }
  | { type: "body"; text: string }
);

export type HubRepo = {
  files: Record<string, Buffer | string>;
  /** Tags and branches beside `main`. */
  revisions?: Record<string, Record<string, Buffer | string>>;
  gated?: boolean;
  private?: boolean;
  licence?: string;
};

export type HubRequest = {
  server: "hub" | "store";
  path: string;
  headers: IncomingMessage["headers"];
};

export type HubEmulator = {
  /** For `HF_ENDPOINT`. */
  endpoint: string;
  requests: HubRequest[];
  faults: HubFault[];
  /** Replaces what `main` is; the commit before stays. @returns the new commit */
  push(repo: string, files: HubRepo["files"]): string;
  commitOf(repo: string, revision?: string): string;
  close(): Promise<void>;
};

export type HubEmulatorOptions = {
  repos: Record<string, HubRepo>;
  /** The token that sees private and gated repositories. */
  token?: string;
  /** Pause between pieces of 64 KiB of a body. */
  pieceDelayMs?: number;
};

type Commit = { sha: string; files: Map<string, Buffer> };
type State = HubEmulatorOptions & {
  commits: Map<string, Commit>;
  heads: Map<string, string>;
  requests: HubRequest[];
  faults: HubFault[];
  store: string;
};

export async function startHubEmulator(options: HubEmulatorOptions): Promise<HubEmulator> {
  const state: State = {
    ...options,
    commits: new Map(),
    heads: new Map(),
    requests: [],
    faults: [],
    store: "",
  };
  for (const [repo, { files, revisions }] of Object.entries(options.repos)) {
    commit(state, repo, "main", files);
    for (const [name, content] of Object.entries(revisions ?? {}))
      commit(state, repo, name, content);
  }
  const store = await listen((request, response) => serveStore(state, request, response));
  state.store = store.url;
  const hub = await listen((request, response) => serveHub(state, request, response));
  return {
    endpoint: hub.url,
    requests: state.requests,
    faults: state.faults,
    push: (repo, files) => commit(state, repo, "main", files),
    commitOf: (repo, revision = "main") => state.heads.get(`${repo}@${revision}`) ?? "",
    close: async () => {
      await Promise.all([hub.close(), store.close()]);
    },
  };
}

/** As the hub does, weights and whatever is large are kept outside of git. */
function isLarge(name: string, content: Buffer): boolean {
  return /\.(safetensors|gguf|bin)$/.test(name) || content.length > 10 * 2 ** 20;
}

function commit(state: State, repo: string, revision: string, files: HubRepo["files"]): string {
  const content = new Map(
    Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes as string)]),
  );
  const hash = createHash("sha1").update(repo);
  for (const [name, bytes] of content) hash.update(name).update(bytes);
  const sha = hash.digest("hex");
  state.commits.set(`${repo}@${sha}`, { sha, files: content });
  state.heads.set(`${repo}@${revision}`, sha);
  return sha;
}

function serveHub(state: State, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://hub");
  const path = decodeURIComponent(url.pathname);
  state.requests.push({ server: "hub", path, headers: request.headers });
  const fault = takeFault(state, path);
  if (fault && failInstead(response, fault)) return;

  const [, repo, revision] = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path) ?? [];
  if (repo !== undefined && revision !== undefined) {
    const found = allowed(state, repo, request, response) && find(state, repo, revision, response);
    if (found) sendJson(response, 200, modelInfo(repo, found, state.repos[repo]));
    return;
  }
  const [, name, at, file] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
  if (name === undefined || at === undefined || file === undefined) {
    refuse(response, 404, "EntryNotFound", "no such page");
    return;
  }
  const found = allowed(state, name, request, response) && find(state, name, at, response);
  if (!found) return;
  if (state.repos[name]?.gated && !hasToken(state, request)) {
    refuse(response, 401, "GatedRepo", "Access to this model is restricted");
    return;
  }
  const content = found.files.get(file);
  response.setHeader("x-repo-commit", found.sha);
  if (!content) refuse(response, 404, "EntryNotFound", "Entry not found");
  else if (isLarge(file, content)) {
    const location = `${state.store}/${name}/${found.sha}/${file}?signature=${sha256(content)}`;
    response.writeHead(302, { location, "x-linked-size": content.length }).end();
  } else {
    response.setHeader("etag", `"${gitSha1(content)}"`);
    sendContent(state, request, response, content, fault);
  }
}

/** Knows nothing of tokens: a request that carries one is refused, as S3 does. */
function serveStore(state: State, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://store");
  const path = decodeURIComponent(url.pathname);
  state.requests.push({ server: "store", path, headers: request.headers });
  const fault = takeFault(state, path);
  if (fault && failInstead(response, fault)) return;
  if (request.headers.authorization !== undefined) {
    refuse(response, 400, "InvalidArgument", "Only one auth mechanism allowed");
    return;
  }
  const [, repo, sha, file = ""] = /^\/([^/]+\/[^/]+)\/([^/]+)\/(.+)$/.exec(path) ?? [];
  const content = state.commits.get(`${repo}@${sha}`)?.files.get(file);
  if (!content || url.searchParams.get("signature") !== sha256(content)) {
    refuse(response, 403, "AccessDenied", "signature");
    return;
  }
  sendContent(state, request, response, content, fault);
}

function takeFault({ faults }: State, path: string): HubFault | undefined {
  const index = faults.findIndex((fault) => fault.path.test(path));
  return index < 0 ? undefined : faults.splice(index, 1)[0];
}

function failInstead(response: ServerResponse, fault: HubFault): boolean {
  switch (fault.type) {
    case "status":
      response.writeHead(fault.status, fault.headers).end("the emulator was asked to fail");
      return true;
    case "redirect":
      response.writeHead(302, { location: fault.to }).end();
      return true;
    case "body":
      response.writeHead(200, { "content-type": "text/html" }).end(fault.text);
      return true;
    default:
      return false;
  }
}

function allowed(
  state: State,
  repo: string,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const known = state.repos[repo];
  const token = request.headers.authorization;
  if (token !== undefined && !hasToken(state, request)) {
    refuse(response, 401, "", "Invalid credentials in Authorization header");
    return false;
  }
  if (known && (!known.private || hasToken(state, request))) return true;
  // The hub does not say whether a repository that may not be seen exists.
  refuse(response, token === undefined ? 401 : 404, "RepoNotFound", "Repository not found");
  return false;
}

function hasToken({ token }: State, request: IncomingMessage): boolean {
  return token !== undefined && request.headers.authorization === `Bearer ${token}`;
}

function find(
  { commits, heads }: State,
  repo: string,
  revision: string,
  response: ServerResponse,
): Commit | undefined {
  const found = commits.get(`${repo}@${heads.get(`${repo}@${revision}`) ?? revision}`);
  if (!found) refuse(response, 404, "RevisionNotFound", `Invalid rev id: ${revision}`);
  return found;
}

function modelInfo(id: string, { sha, files }: Commit, repo: HubRepo | undefined) {
  return {
    _id: "0",
    id,
    sha,
    private: repo?.private ?? false,
    gated: repo?.gated ? "manual" : false,
    ...(repo?.licence && { cardData: { license: repo.licence } }),
    siblings: [...files].map(([rfilename, content]) =>
      isLarge(rfilename, content)
        ? {
            rfilename,
            blobId: gitSha1(Buffer.from(`pointer to ${sha256(content)}`)),
            size: content.length,
            lfs: { sha256: sha256(content), size: content.length, pointerSize: 134 },
          }
        : { rfilename, blobId: gitSha1(content), size: content.length },
    ),
  };
}

function sendContent(
  { pieceDelayMs = 0 }: State,
  request: IncomingMessage,
  response: ServerResponse,
  content: Buffer,
  fault: HubFault | undefined,
): void {
  const [, first] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
  const from = first === undefined || fault?.type === "no-range" ? 0 : Number(first);
  if (from >= content.length && from > 0) {
    response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
    return;
  }
  const body = Buffer.from(content.subarray(from));
  if (fault?.type === "flip") body[fault.atByte] = (body[fault.atByte] ?? 0) ^ 1;
  const isPart = first !== undefined && fault?.type !== "no-range";
  response.writeHead(isPart ? 206 : 200, {
    "accept-ranges": "bytes",
    "content-length": body.length,
    ...(isPart && { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
  });
  const stops = fault?.type === "cut" || fault?.type === "hang" ? fault.afterBytes : body.length;
  void writePieces(response, body.subarray(0, stops), pieceDelayMs).then(async () => {
    if (fault?.type === "hang") return;
    if (fault?.type !== "cut") return void response.end();
    // What was written before a cut arrives; a receiver drops what comes together with it.
    await pause(20);
    response.socket?.destroy();
  });
}

async function writePieces(response: ServerResponse, body: Buffer, delayMs: number): Promise<void> {
  for (let at = 0; at < body.length && !response.destroyed; at += pieceBytes) {
    const piece = body.subarray(at, at + pieceBytes);
    await new Promise<void>((resolve) => response.write(piece, () => resolve()));
    if (delayMs > 0) await pause(delayMs);
  }
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.setHeader("x-error-code", code);
  response.setHeader("x-error-message", message);
  sendJson(response, status, { error: message });
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

function gitSha1(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

async function listen(
  serve: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ url: string; close(): Promise<void> }> {
  const server: Server = createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const pieceBytes = 64 * 1024;
