/** Where an adapter's two files come from: a folder on this machine, or the registry. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { adapterDigest } from "../../sdk/protocol/adapter/digest.ts";
import { adapterVersionOfBase } from "../../sdk/protocol/admin.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { abortableRequest, type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import type { Sha256 } from "../../sdk/protocol/ids.ts";
import type { FileMemory } from "./file-memory.ts";

/** Bytes of `adapter_config.json` and `adapter_model.safetensors`. */
export type AdapterFiles = { config: Uint8Array; weights: Uint8Array };

/** Finds files by what they are. Whoever asks verifies the answer; a source need not be trusted. */
export type AdapterSource = {
  /** @throws HubError `model_not_found` when there is no such adapter */
  fetchFiles(digest: Sha256): Promise<AdapterFiles>;
};

export type RegistrySourceOptions = {
  registry: Fetcher;
  /** Where the registry's `/api` is; in one process any origin will do. */
  origin?: string;
  operatorKey: string;
  fileBytesMax: number;
  /** How long one answer may take. */
  timeoutMs?: number;
};

/** Adapters that were pushed to the registry, whatever their project: the caller has been authorised. */
export function registrySource(options: RegistrySourceOptions): AdapterSource {
  const { registry, origin = inProcessOrigin, operatorKey, fileBytesMax } = options;
  const headers = { authorization: `Bearer ${operatorKey}` };

  async function get(path: string): Promise<Response> {
    const signal = AbortSignal.timeout(options.timeoutMs ?? 60_000);
    const request = abortableRequest(`${origin}${path}`, { headers, signal });
    const response = await registry.fetch(request).catch((cause: unknown) => {
      throw new HubError("upstream_unavailable", "The registry cannot be reached.", { cause });
    });
    if (response.status === 404) throw noSuchAdapter();
    if (!response.ok) {
      throw new HubError(
        "upstream_unavailable",
        `The registry answered with status ${response.status}.`,
      );
    }
    return response;
  }

  async function artifact(sha256: string): Promise<Uint8Array> {
    const response = await get(`/api/artifacts/${sha256}`);
    return readBody(response, fileBytesMax);
  }

  return {
    async fetchFiles(digest) {
      const version = adapterVersionOfBase.parse(
        await (await get(`/api/adapter-versions/${digest}`)).json(),
      );
      const [config, weights] = await Promise.all([
        artifact(version.configSha256),
        artifact(version.weightsSha256),
      ]);
      return { config, weights };
    },
  };
}

/**
 * The adapters that lie in these folders now, one folder each: for a server without a registry.
 * Reads every file once, to know it by its digest.
 */
export async function folderSource(
  folders: readonly string[],
  fileBytesMax: number,
): Promise<AdapterSource> {
  const byDigest = new Map<string, string>();
  for (const folder of folders) {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      const files =
        entry.isDirectory() && (await readAdapterFolder(path, fileBytesMax).catch(() => undefined));
      if (files) byDigest.set(digestOfFiles(files), path);
    }
  }
  return {
    async fetchFiles(digest) {
      const path = byDigest.get(digest);
      if (path === undefined) throw noSuchAdapter();
      return readAdapterFolder(path, fileBytesMax);
    },
  };
}

/**
 * Reads an adapter as PEFT saves it.
 * @param memory to read the weights into, to be given back by whoever needs them no more; new memory when absent
 * @throws HubError `not_found` when the folder has no adapter, `invalid_adapter` when it has no weights
 */
export async function readAdapterFolder(
  folder: string,
  fileBytesMax: number,
  memory?: FileMemory,
): Promise<AdapterFiles> {
  const config = await readBounded(join(folder, "adapter_config.json"), { fileBytesMax });
  if (!config) throw new HubError("not_found", `No adapter found for ${folder}`);
  const weights = await readBounded(join(folder, "adapter_model.safetensors"), {
    fileBytesMax,
    memory,
  });
  if (!weights) {
    throw new HubError("invalid_adapter", `${folder} has no file 'adapter_model.safetensors'.`);
  }
  return { config, weights };
}

/** The identity of these very bytes. */
export function digestOfFiles({ config, weights }: AdapterFiles): Sha256 {
  return adapterDigest(
    { configSha256: sha256Hex(config), weightsSha256: sha256Hex(weights) },
    sha256Hex,
  );
}

export function sha256Hex(data: Uint8Array | string): string {
  return createHash("sha256").update(data).digest("hex");
}

export function noSuchAdapter(): HubError {
  return new HubError("model_not_found", "There is no adapter with this digest.", {
    param: "model",
  });
}

async function readBounded(
  path: string,
  { fileBytesMax: bytesMax, memory }: { fileBytesMax: number; memory?: FileMemory | undefined },
): Promise<Uint8Array | undefined> {
  let file: FileHandle;
  try {
    // A named pipe would keep us waiting for somebody who writes to it.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    if (error instanceof Error && "code" in error && error.code === "ENOTDIR") return undefined;
    throw error;
  }
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new HubError("invalid_adapter", `${path} is no regular file.`);
    if (info.size > bytesMax) throw tooLarge(bytesMax);
    const bytes = memory?.take(info.size) ?? new Uint8Array(info.size);
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  } finally {
    await file.close();
  }
}

/** A body that is longer than it says, or says nothing, is still bounded. */
async function readBody(response: Response, bytesMax: number): Promise<Uint8Array> {
  if (Number(response.headers.get("content-length") ?? 0) > bytesMax) throw tooLarge(bytesMax);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > bytesMax) throw tooLarge(bytesMax);
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(length);
  let filled = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  return bytes;
}

function tooLarge(bytesMax: number): HubError {
  return new HubError("invalid_adapter", `An adapter's file may have at most ${bytesMax} bytes.`);
}
