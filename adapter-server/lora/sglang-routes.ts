/**
 * SGLang's routes to load and unload adapters by name: every answer tells whether it worked and what is loaded then.
 * @see https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/managers/io_struct.py, `LoRAUpdateOutput`
 */
import { z } from "zod";
import { errorTable, HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { isAdapterName } from "./adapter-names.ts";
import { allowedFolder } from "./allowed-folder.ts";
import type { LoraRoutesParts } from "./vllm-routes.ts";

/**
 * `POST /load_lora_adapter {lora_name, lora_path, pinned?}`. A name that is taken is refused: SGLang unloads first.
 * @throws HubError when a field is missing, and what is not the adapter's fault
 */
export async function loadForSglang(parts: LoraRoutesParts, body: unknown): Promise<Response> {
  const { lora_name: name, lora_path: path, pinned } = parseOrThrow(loading, body);
  const { adapters, baseIds, folders, by } = parts;
  return told(parts, async () => {
    if (baseIds.includes(name)) throw refusal(`'${name}' is the name of a base model.`);
    if (!isAdapterName(name)) throw refusal("its name is not allowed.");
    const folder = await allowedFolder(path, folders);
    if (folder === undefined) throw refusal(`no adapter was found for ${path.slice(0, 400)}.`);
    try {
      await adapters.loadNamed({ name, path: folder, replace: false, pinned: pinned ?? false, by });
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "adapter_already_loaded") throw error;
      throw refusal(`LoRA with name ${name} already exists, it is already loaded.`);
    }
  });
}

/** `POST /unload_lora_adapter {lora_name}`. Requests that run with it end with it. */
export async function unloadForSglang(parts: LoraRoutesParts, body: unknown): Promise<Response> {
  const { lora_name: name } = parseOrThrow(unloading, body);
  return told(parts, async () => {
    if (await parts.adapters.unloadNamed(name, { by: parts.by })) return;
    throw refusal(`LoRA with name ${name.slice(0, 200)} does not exist.`);
  });
}

/** What a client could do better is told in SGLang's body, all else as everywhere. */
async function told({ adapters }: LoraRoutesParts, work: () => Promise<void>): Promise<Response> {
  let message: string | null = null;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof HubError) || errorTable[error.code].status >= 500) throw error;
    message = error.message;
  }
  const loaded = Object.fromEntries(adapters.names().map(({ name, path }) => [name, path]));
  return Response.json(
    { success: message === null, error_message: message, loaded_adapters: loaded },
    { status: message === null ? 200 : 400 },
  );
}

function refusal(reason: string): HubError {
  return new HubError("invalid_value", `Failed to load or unload a LoRA adapter: ${reason}`);
}

const unloading = z.looseObject({ lora_name: z.string().min(1) });
const loading = unloading.extend({
  lora_path: z.string().min(1),
  pinned: z.boolean().nullish(),
});
