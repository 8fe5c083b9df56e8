/** A canonical conversation as Gemini's contents: turns of `user` and `model` in alternation. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  AudioPart,
  FilePart,
  ImagePart,
  InputPart,
  MediaSource,
  OutputPart,
  ToolCallPart,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import { openSeal } from "../../canonical/seal.ts";

type Part = Record<string, unknown>;
export type Content = { role: "user" | "model"; parts: Part[] };

/**
 * Neighbours of one role become one, parts without anything are left out, and results are given the names of the calls
 * that they answer.
 * @param model as the upstream calls it
 */
export function writeContents(
  turns: readonly Turn[],
  { model, dropped }: { model: string; dropped: Set<string> },
): Content[] {
  const contents: Content[] = [];
  const add = (role: Content["role"], parts: Part[]) => {
    const last = contents.at(-1);
    if (parts.length === 0) return;
    if (last?.role === role) for (const part of parts) last.parts.push(part);
    else contents.push({ role, parts });
  };
  const names = new Map<string, string>();
  for (const turn of turns) {
    switch (turn.role) {
      case "system":
      case "user":
        add(
          "user",
          turn.parts.flatMap((part) => writeInput(part, dropped)),
        );
        break;
      case "assistant":
        for (const part of turn.parts) {
          if (part.type === "tool_call") names.set(part.id, part.name);
        }
        add("model", writeOutput(turn.parts, { model, dropped }));
        break;
      case "tool":
        add("user", writeResult(turn.result, { model, name: names.get(turn.result.callId) }));
        break;
      default:
        turn satisfies never;
    }
  }
  return contents;
}

/** Gemini 1 and 2 know neither levels of thinking nor signatures that must come back. */
export function isBeforeGemini3(model: string): boolean {
  return /gemini-[12](\.|-|$)|gemini-(pro|flash)|gemma/.test(model);
}

function writeInput(part: InputPart, dropped: Set<string>): Part[] {
  if ("cache" in part && part.cache) dropped.add("cache_control");
  switch (part.type) {
    case "text":
      return part.text === "" ? [] : [{ text: part.text }];
    case "image":
      if (part.detail !== undefined && part.detail !== "auto") dropped.add("image.detail");
      return [writeMedia(part)];
    case "file":
    case "audio":
      return [writeMedia(part)];
    default:
      return part satisfies never;
  }
}

function writeMedia(part: ImagePart | FilePart | AudioPart): Part {
  if (part.type === "audio") {
    return { inlineData: { mimeType: `audio/${part.format}`, data: part.base64 } };
  }
  const { source } = part;
  switch (source.type) {
    case "base64":
      return { inlineData: { mimeType: source.mediaType, data: source.data } };
    case "url":
      return { fileData: { mimeType: mediaTypeOf(source, part.type), fileUri: source.url } };
    case "file_id":
      return { fileData: { fileUri: source.id } };
    default:
      return source satisfies never;
  }
}

/** Google wants to be told, and an address tells it by its ending. */
function mediaTypeOf(
  { url }: Extract<MediaSource, { type: "url" }>,
  part: "image" | "file",
): string {
  const ending = /\.(\w{2,5})(?:[?#]|$)/.exec(url)?.[1]?.toLowerCase() ?? "";
  return mediaTypes[ending] ?? (part === "image" ? "image/jpeg" : "application/pdf");
}

function writeOutput(
  parts: readonly OutputPart[],
  { model, dropped }: { model: string; dropped: Set<string> },
): Part[] {
  const written = parts.flatMap((part): Part[] => {
    switch (part.type) {
      case "text":
      case "refusal":
        return part.text === "" ? [] : [{ text: part.text }];
      case "reasoning": {
        const thoughtSignature = openSeal("google", part.signature);
        if (thoughtSignature === undefined) {
          dropped.add("messages.reasoning");
          return [];
        }
        // A signature without a thought belongs to the answer's own text.
        return [{ text: part.text, ...(part.text !== "" && { thought: true }), thoughtSignature }];
      }
      case "tool_call":
        return [writeCall(part)];
      default:
        return part satisfies never;
    }
  });
  const firstCall = written.find((part) => "functionCall" in part);
  // From Gemini 3 on a call without its signature is refused, and one that another model made has none.
  if (firstCall && !isBeforeGemini3(model) && firstCall.thoughtSignature === undefined) {
    firstCall.thoughtSignature = unsignedCall;
  }
  return written;
}

function writeCall({ id, name, arguments: text, signature, custom }: ToolCallPart): Part {
  if (custom) throw unsupported("messages", "A call of a custom tool");
  const thoughtSignature = openSeal("google", signature);
  return {
    functionCall: { id, name, args: toObject(text) ?? {} },
    ...(thoughtSignature !== undefined && { thoughtSignature }),
  };
}

/** @param name of the call that it answers */
function writeResult(
  { callId, name: told, parts, isError }: ToolResult,
  { model, name = told }: { model: string; name: string | undefined },
): Part[] {
  if (name === undefined) {
    throw new HubError(
      "invalid_value",
      `A tool's result answers the call '${callId.slice(0, 100)}', which is not in the conversation.`,
      { param: "messages" },
    );
  }
  const text = parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n\n");
  const media = parts.flatMap((part) => (part.type === "text" ? [] : [writeMedia(part)]));
  const response = isError ? { error: text } : (toObject(text) ?? { output: text });
  const inside = media.length > 0 && !isBeforeGemini3(model);
  const functionResponse = { id: callId, name, response, ...(inside && { parts: media }) };
  return [{ functionResponse }, ...(inside ? [] : media)];
}

function toObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

export function unsupported(param: string, what: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: ${what} is not supported with this model.`,
    { param },
  );
}

/** @see https://ai.google.dev/gemini-api/docs/thought-signatures, for calls that Gemini did not make itself */
const unsignedCall = "skip_thought_signature_validator";

const mediaTypes: Readonly<Record<string, string>> = {
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  png: "image/png",
  webp: "image/webp",
  gif: "image/gif",
  heic: "image/heic",
  pdf: "application/pdf",
  txt: "text/plain",
  html: "text/html",
  csv: "text/csv",
};
