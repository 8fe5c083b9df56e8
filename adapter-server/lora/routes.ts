/** vLLM's routes to load and unload adapters by name, with vLLM's status codes and texts. */
import { realpath } from "node:fs/promises";
import { isAbsolute, relative, resolve, sep } from "node:path";
import { HubError } from "../../sdk/protocol/errors.ts";
import { isAdapterName } from "./adapter-names.ts";
import type { AdapterStore } from "./adapter-store.ts";

export type LoraRoutesParts = {
  adapters: AdapterStore;
  baseId: string;
  /** `lora_path` has to lie below one of them; a relative one is looked for in each. */
  folders: readonly string[];
  /** Who asks, for the audit log. */
  by: string;
};

/**
 * `POST /v1/load_lora_adapter {lora_name, lora_path, load_inplace?}`.
 * @throws HubError what is wrong with the adapter's files
 */
export async function loadLoraAdapter(
  parts: LoraRoutesParts,
  body: Record<string, unknown>,
): Promise<Response> {
  const { lora_name: name, lora_path: path, load_inplace: replace } = body;
  for (const field of ["lora_name", "lora_path"]) {
    if (typeof body[field] !== "string") return missingField(field, body);
  }
  if (typeof name !== "string" || typeof path !== "string" || name === "" || path === "") {
    return refusal(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.");
  }
  if (name === parts.baseId) {
    return refusal(
      400,
      "InvalidUserInput",
      `The lora adapter '${name}' conflicts with a served base model.`,
    );
  }
  if (!isAdapterName(name)) {
    return refusal(
      400,
      "InvalidUserInput",
      `The lora adapter name ${JSON.stringify(name.slice(0, 128))} is not allowed: expected at most 64 letters, digits, '.', '_' and '-' that begin with a letter or digit.`,
    );
  }
  const notFound = refusal(
    404,
    "NotFoundError",
    `Loading lora ${name} failed: No adapter found for ${path}`,
  );
  const folder = await allowedFolder(path, parts.folders);
  if (folder === undefined) return notFound;
  try {
    await parts.adapters.loadNamed({ name, path: folder, replace: replace === true, by: parts.by });
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    if (error.code === "not_found") return notFound;
    if (error.code !== "adapter_already_loaded") throw error;
    return refusal(
      400,
      "InvalidUserInput",
      `The lora adapter '${name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.`,
    );
  }
  return new Response(`Success: LoRA adapter '${name}' added successfully.`);
}

/** `POST /v1/unload_lora_adapter {lora_name}`. */
export async function unloadLoraAdapter(
  parts: LoraRoutesParts,
  body: Record<string, unknown>,
): Promise<Response> {
  const { lora_name: name } = body;
  if (typeof name !== "string") return missingField("lora_name", body);
  if (name === "") {
    return refusal(
      400,
      "InvalidUserInput",
      "'lora_name' needs to be provided to unload a LoRA adapter.",
    );
  }
  if (!(await parts.adapters.unloadNamed(name, { by: parts.by }))) {
    return refusal(404, "NotFoundError", `The lora adapter '${name}' cannot be found.`);
  }
  return new Response(`Success: LoRA adapter '${name}' removed successfully.`);
}

/** The real path when it lies below an allowed folder, links followed; whether others exist is not told. */
async function allowedFolder(
  path: string,
  folders: readonly string[],
): Promise<string | undefined> {
  for (const folder of folders) {
    const [root, target] = await Promise.all([real(folder), real(resolve(folder, path))]);
    if (root === undefined || target === undefined) continue;
    const inside = relative(root, target);
    if (inside !== ".." && !inside.startsWith(`..${sep}`) && !isAbsolute(inside)) return target;
  }
  return undefined;
}

function real(path: string): Promise<string | undefined> {
  return realpath(path).catch(() => undefined);
}

function missingField(field: string, body: Record<string, unknown>): Response {
  const detail = `{'type': 'missing', 'loc': 'body.${field}', 'msg': 'Field required', 'input': '<dict of ${Object.keys(body).length} items>'}`;
  return refusal(400, "Bad Request", `1 validation error:\n  ${detail}`, `body.${field}`);
}

/** vLLM's error body: `code` is the status. Recorded from vLLM 0.32. */
function refusal(
  status: number,
  type: string,
  message: string,
  param: string | null = null,
): Response {
  return Response.json({ error: { message, type, param, code: status } }, { status });
}
