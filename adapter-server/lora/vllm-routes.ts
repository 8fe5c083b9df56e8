/**
 * vLLM's routes to load and unload adapters by name, with the status codes, bodies and texts of vLLM 0.32, byte for
 * byte; a test replays its recording. Only what is wrong with an adapter's files is told in our own words: vLLM
 * answers 500 there, with what its worker happened to throw.
 */
import { HubError } from "../../sdk/protocol/errors.ts";
import { isAdapterName } from "./adapter-names.ts";
import type { AdapterStore } from "./adapter-store.ts";
import { allowedFolder } from "./allowed-folder.ts";

export type LoraRoutesParts = {
  adapters: AdapterStore;
  /** Names of models that are no adapters. */
  baseIds: readonly string[];
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
  { adapters, baseIds, folders, by }: LoraRoutesParts,
  request: Request,
): Promise<Response> {
  const body = await readBody(request, ["lora_name", "lora_path"]);
  if (body instanceof Response) return body;
  const { lora_name: name = "", lora_path: path = "" } = body.texts;
  if (name === "" || path === "") {
    return refusal(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.");
  }
  if (baseIds.includes(name)) {
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
  const notFound = () =>
    refusal(
      404,
      "NotFoundError",
      `Loading lora ${name} failed: No adapter found for ${path.slice(0, 400)}`,
    );
  const folder = await allowedFolder(path, folders);
  if (folder === undefined) return notFound();
  try {
    const replace = body.fields.load_inplace === true;
    await adapters.loadNamed({ name, path: folder, replace, by });
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    if (error.code === "not_found") return notFound();
    if (error.code !== "adapter_already_loaded") throw error;
    return refusal(
      400,
      "InvalidUserInput",
      `The lora adapter '${name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.`,
    );
  }
  return success(`Success: LoRA adapter '${name}' added successfully.`);
}

/** `POST /v1/unload_lora_adapter {lora_name}`. */
export async function unloadLoraAdapter(
  { adapters, by }: LoraRoutesParts,
  request: Request,
): Promise<Response> {
  const body = await readBody(request, ["lora_name"]);
  if (body instanceof Response) return body;
  const { lora_name: name = "" } = body.texts;
  if (name === "") {
    return refusal(
      400,
      "InvalidUserInput",
      "'lora_name' needs to be provided to unload a LoRA adapter.",
    );
  }
  if (!(await adapters.unloadNamed(name, { by }))) {
    const shown = name.slice(0, 200);
    return refusal(404, "NotFoundError", `The lora adapter '${shown}' cannot be found.`);
  }
  return success(`Success: LoRA adapter '${name}' removed successfully.`);
}

/** What vLLM's web framework says to any other method. */
export function wrongMethod(): Response {
  return Response.json(
    { detail: "Method Not Allowed" },
    { status: 405, headers: { allow: "POST" } },
  );
}

type Body = { fields: Record<string, unknown>; texts: Record<string, string> };

/** The body with some fields as texts, or what is wrong with it. */
async function readBody(request: Request, names: readonly string[]): Promise<Body | Response> {
  const type = request.headers.get("content-type") ?? "";
  if (type.split(";")[0]?.trim().toLowerCase() !== "application/json") {
    return invalid("Unsupported Media Type: Only 'application/json' is allowed");
  }
  const parsed = parseJson(await request.text());
  if (parsed instanceof Response) return parsed;
  const { value } = parsed;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return invalid(
      "{'type': 'dict_type', 'loc': 'body', 'msg': 'Input should be a valid dictionary'}",
      "body",
    );
  }
  const fields: Record<string, unknown> = { ...value };
  const texts: Record<string, string> = {};
  for (const name of names) {
    const text = fields[name];
    if (typeof text !== "string") return noText(name, fields);
    texts[name] = text;
  }
  return { fields, texts };
}

/** Where Python's reader stops, JavaScript's does as well; only the words differ. */
function parseJson(text: string): { value: unknown } | Response {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    const message = error instanceof Error ? error.message : "";
    const position = /position (\d+)/.exec(message)?.[1] ?? "0";
    const cause = /property name/.test(message)
      ? "Expecting property name enclosed in double quotes"
      : "Expecting value";
    return invalid(
      `{'type': 'json_invalid', 'loc': 'body.${position}', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': '${cause}'}}`,
      `body.${position}`,
    );
  }
}

function noText(name: string, fields: Record<string, unknown>): Response {
  const detail =
    fields[name] === undefined
      ? `'type': 'missing', 'loc': 'body.${name}', 'msg': 'Field required', 'input': '<dict of ${Object.keys(fields).length} items>'`
      : `'type': 'string_type', 'loc': 'body.${name}', 'msg': 'Input should be a valid string'`;
  return invalid(`{${detail}}`, `body.${name}`);
}

function invalid(detail: string, param: string | null = null): Response {
  return refusal(400, "Bad Request", `1 validation error:\n  ${detail}`, param);
}

/** Text without a content type, as vLLM sends it; bytes have none by themselves. */
function success(text: string): Response {
  return new Response(new TextEncoder().encode(text));
}

/** vLLM's error body: `code` is the status. */
function refusal(
  status: number,
  type: string,
  message: string,
  param: string | null = null,
): Response {
  return Response.json({ error: { message, type, param, code: status } }, { status });
}
