/** What clients put into conversations, as items are listed: each with an id, and messages with a list of parts. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { inputItem } from "../dialects/openai-responses/schema.ts";
import type { Item } from "../responses/store.ts";

/**
 * @param param where they stand in the request, for errors
 * @throws HubError naming the item that is wrong
 */
export function readItems(
  given: readonly unknown[],
  { param, newId }: { param: string; newId: (prefix: string) => string },
): Item[] {
  return given.map((value, index) => {
    const at = `${param}[${index}]`;
    const item = parseOrThrow(anyItem, value, `${at}.`);
    const type = item.type ?? "message";
    if (idPrefixes.has(type)) parseOrThrow(inputItem, { ...item, type }, `${at}.`);
    else if (!hostedTypes.has(type)) throw unknownType(type, at);
    return toListedItem(item, newId);
  });
}

/** An item that is known to be one. */
export function toListedItem(
  item: Readonly<Record<string, unknown>>,
  newId: (prefix: string) => string,
): Item {
  const type = typeof item.type === "string" ? item.type : "message";
  const listed = { type, ...item, id: newId(idPrefixes.get(type) ?? "item") };
  if (type === "reasoning" || !idPrefixes.has(type)) return listed;
  const withStatus = { status: "completed", ...listed };
  if (type !== "message" || typeof item.content !== "string") return withStatus;
  const said = item.role === "assistant";
  const part = said
    ? { type: "output_text", text: item.content, annotations: [], logprobs: [] }
    : { type: "input_text", text: item.content };
  return { ...withStatus, content: [part] };
}

/** An item as it is shown: some of it only to who asks for it. */
export function showItem(item: Item, include: ReadonlySet<string>): Item {
  const shown: Record<string, unknown> & { id: string } = { ...item };
  switch (item.type) {
    case "message":
      if (Array.isArray(item.content)) {
        shown.content = item.content.map((part) => showPart(part, include));
      }
      break;
    case "reasoning":
      if (!include.has("reasoning.encrypted_content")) delete shown.encrypted_content;
      break;
    case "file_search_call":
      if (!include.has("file_search_call.results")) shown.results = null;
      break;
    case "code_interpreter_call":
      if (!include.has("code_interpreter_call.outputs")) shown.outputs = null;
      break;
    default:
  }
  return shown;
}

/** @throws HubError `invalid_value` for what nobody can ask for */
export function readInclude(asked: readonly string[]): ReadonlySet<string> {
  for (const one of asked) {
    if (includable.has(one)) continue;
    throw new HubError(
      "invalid_value",
      `Invalid value: '${one.slice(0, 100)}'. Supported values are: ${[...includable].map((it) => `'${it}'`).join(", ")}.`,
      { param: "include" },
    );
  }
  return new Set(asked);
}

function showPart(part: unknown, include: ReadonlySet<string>): unknown {
  const read = anyPart.safeParse(part).data;
  if (read?.type === "input_image" && !include.has("message.input_image.image_url")) {
    return { ...read, image_url: null };
  }
  if (read?.type === "output_text" && !include.has("message.output_text.logprobs")) {
    return { ...read, logprobs: [] };
  }
  return part;
}

function unknownType(type: string, param: string): HubError {
  const known = [...idPrefixes.keys(), ...hostedTypes];
  return new HubError(
    "invalid_value",
    `Invalid value: '${type.slice(0, 100)}'. Supported values are: ${known.join(", ")}.`,
    { param },
  );
}

const anyItem = z.looseObject({ type: z.string().nullish() });
const anyPart = z.looseObject({ type: z.string() });

/** Of the items that every model knows. */
const idPrefixes: ReadonlyMap<string, string> = new Map([
  ["message", "msg"],
  ["function_call", "fc"],
  ["function_call_output", "fco"],
  ["custom_tool_call", "ctc"],
  ["custom_tool_call_output", "ctco"],
  ["reasoning", "rs"],
]);

/** What OpenAI's own tools leave behind. */
const hostedTypes: ReadonlySet<string> = new Set([
  "compaction",
  "web_search_call",
  "file_search_call",
  "computer_call",
  "computer_call_output",
  "code_interpreter_call",
  "image_generation_call",
  "local_shell_call",
  "local_shell_call_output",
  "shell_call",
  "shell_call_output",
  "apply_patch_call",
  "apply_patch_call_output",
  "mcp_list_tools",
  "mcp_call",
  "mcp_approval_request",
  "mcp_approval_response",
  "tool_search_call",
  "tool_search_output",
]);

const includable: ReadonlySet<string> = new Set([
  "file_search_call.results",
  "web_search_call.results",
  "web_search_call.action.sources",
  "message.input_image.image_url",
  "computer_call_output.output.image_url",
  "code_interpreter_call.outputs",
  "reasoning.encrypted_content",
  "message.output_text.logprobs",
]);
