/** Adapters: pushed as PEFT writes them, promoted and rolled back by their aliases. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { PushAdapter } from "../protocol/admin.ts";
import type { Adapter, AdapterVersion, RegistryEvent } from "../protocol/catalog.ts";
import { defaultAlias } from "../protocol/model-name.ts";
import { SwitchyardError } from "./error.ts";
import type { Transport } from "./transport.ts";
import { countedUpload, type UploadProgress } from "./upload.ts";

export type PushFolder = PushAdapter & {
  onProgress?: ((progress: UploadProgress) => void) | undefined;
};

/** Events, oldest first, and where each alias points since when. */
export type AdapterHistory = {
  data: RegistryEvent[];
  aliases: Record<string, { version: number; since: string; actor: string; reason: string }>;
};

export class Adapters {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Uploads a PEFT folder. The same content pushed again is the same version.
   * @param folder  holds `adapter_config.json` and `adapter_model.safetensors`
   * @throws SwitchyardError `invalid_folder`, and the registry's reasons to refuse an adapter
   */
  async push(
    folder: string,
    { onProgress, ...manifest }: PushFolder,
  ): Promise<{ adapter: Adapter; version: AdapterVersion }> {
    const form = new FormData();
    form.set("manifest", JSON.stringify(manifest));
    for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
      form.set(name, new Blob([await readPart(folder, name)]), name);
    }
    const upload = countedUpload(form, onProgress);
    // Pushing for a named project, or for all of them, is an admin's to do.
    const key = manifest.projectId === undefined && manifest.shared !== true ? "project" : "admin";
    return this.#transport.call("/api/adapters", { method: "POST", key, ...upload });
  }

  list(filter: { projectId?: string | undefined } = {}): Promise<Adapter[]> {
    return this.#transport.listAll("/api/adapters", {
      key: "project",
      query: filter,
    });
  }

  /**
   * @param ref  an id, `base:name`, or `name` where no two bases share it
   * @throws SwitchyardError `not_found`, `ambiguous_name`
   */
  async find(ref: string): Promise<Adapter> {
    const all = await this.list();
    const found = all.filter(
      ({ id, base, name }) => id === ref || name === ref || `${base}:${name}` === ref,
    );
    const [adapter, second] = found;
    if (adapter && !second) return adapter;
    const names = (adapter ? found : all).map(({ base, name, id }) => `${base}:${name} (${id})`);
    throw new SwitchyardError(
      adapter
        ? `'${ref}' may mean any of: ${names.join(", ")}. Name one by its id or as base:name.`
        : `There is no adapter '${ref}'. ${names.length === 0 ? "None was pushed yet." : `There are: ${names.join(", ")}.`}`,
      { code: adapter ? "ambiguous_name" : "not_found" },
    );
  }

  /**
   * Moves an alias, `champion` unless told otherwise, from the version it points at now. Whoever moves it
   * in between wins, and this call fails with `alias_moved`.
   */
  async promote(
    ref: string,
    move: {
      version: number;
      alias?: string | undefined;
      reason?: string | undefined;
      force?: boolean | undefined;
    },
  ): Promise<Adapter> {
    const { version, alias = defaultAlias, reason, force } = move;
    const adapter = await this.find(ref);
    return this.#transport.call(aliasPath(adapter, alias), {
      method: "PUT",
      key: "project",
      json: { version, expect: adapter.aliases[alias] ?? null, reason, force },
    });
  }

  /** Moves an alias back to the version it pointed at before. */
  async rollback(ref: string, alias = defaultAlias): Promise<Adapter> {
    const adapter = await this.find(ref);
    return this.#transport.call(`${aliasPath(adapter, alias)}/rollback`, {
      method: "POST",
      key: "project",
      json: { expect: adapter.aliases[alias] },
    });
  }

  /** @param at  asks for the history until then, an ISO timestamp: "who was champion on 3 March" */
  async history(ref: string, at?: string): Promise<AdapterHistory> {
    const { id } = await this.find(ref);
    const path = `/api/adapters/${encodeURIComponent(id)}/history`;
    return this.#transport.call(path, { key: "project", query: { at } });
  }
}

function aliasPath(adapter: Adapter, alias: string): string {
  return `/api/adapters/${encodeURIComponent(adapter.id)}/aliases/${encodeURIComponent(alias)}`;
}

async function readPart(folder: string, name: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(join(folder, name)));
  } catch (cause) {
    throw new SwitchyardError(
      `${join(folder, name)} cannot be read. An adapter is a folder as PEFT's save_pretrained writes it, with adapter_config.json and adapter_model.safetensors.`,
      { code: "invalid_folder", cause },
    );
  }
}
