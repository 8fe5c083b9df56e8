/** Google's contents as turns of a conversation. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  FilePart,
  ImagePart,
  InputPart,
  OutputPart,
  TextPart,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import type { Content, Part } from "./schema.ts";
import { fromThoughtSignature } from "./seal.ts";

/** @throws HubError naming the part that is wrong, or that has no place in any other dialect */
export function readContents(contents: readonly Content[]): Turn[] {
  const turns: Turn[] = [];
  const calls = new CallIds();
  for (const [index, { role, parts }] of contents.entries()) {
    const at = `contents[${index}]`;
    if (role === "model") {
      const said = (parts ?? []).flatMap((part, number) =>
        readOutput(part, { at: `${at}.parts[${number}]`, calls }),
      );
      turns.push({ role: "assistant", parts: said });
    } else if (role == null || role === "user" || role === "function") {
      for (const turn of readUser(parts ?? [], { at, calls })) turns.push(turn);
    } else {
      throw new HubError("invalid_value", "Please use a valid role: user, model.", {
        param: `${at}.role`,
      });
    }
  }
  return turns;
}

/** @throws HubError for parts that are no text */
export function readInstructions(content: Content | null | undefined): TextPart[] {
  return (content?.parts ?? []).map((part, index) => {
    if (part.text != null) return { type: "text", text: part.text };
    throw unsupportedPart(part, `systemInstruction.parts[${index}]`);
  });
}

/** Results are turns of their own, between what else the user says. */
function readUser(parts: readonly Part[], { at, calls }: { at: string; calls: CallIds }): Turn[] {
  const turns: Turn[] = [];
  for (const [index, part] of parts.entries()) {
    const where = `${at}.parts[${index}]`;
    if (part.functionResponse) {
      turns.push({ role: "tool", result: readResult(part.functionResponse, where, calls) });
      continue;
    }
    const read = readInput(part, where);
    const last = turns.at(-1);
    if (last?.role === "user") last.parts.push(read);
    else turns.push({ role: "user", parts: [read] });
  }
  return turns;
}

function readInput(part: Part, at: string): InputPart {
  if (part.text != null) return { type: "text", text: part.text };
  const media = readMedia(part);
  if (media) return media;
  const { inlineData } = part;
  if (inlineData) {
    const format = inlineData.mimeType.slice("audio/".length);
    return { type: "audio", format: audioFormats.get(format) ?? format, base64: inlineData.data };
  }
  throw unsupportedPart(part, at);
}

/** Pictures and documents; what is heard is none. */
function readMedia({
  inlineData,
  fileData,
}: Pick<Part, "inlineData" | "fileData">): ImagePart | FilePart | undefined {
  const kind = (mimeType: string | null | undefined) =>
    mimeType?.startsWith("image/") ? "image" : "file";
  if (inlineData) {
    const { mimeType, data } = inlineData;
    if (mimeType.startsWith("audio/")) return undefined;
    return { type: kind(mimeType), source: { type: "base64", mediaType: mimeType, data } };
  }
  if (fileData) {
    const { mimeType, fileUri } = fileData;
    const isPublic = /^https?:\/\//.test(fileUri) && !ownFiles.test(fileUri);
    return {
      type: kind(mimeType),
      source: isPublic ? { type: "url", url: fileUri } : { type: "file_id", id: fileUri },
    };
  }
  return undefined;
}

function readOutput(part: Part, { at, calls }: { at: string; calls: CallIds }): OutputPart[] {
  const seal = part.thoughtSignature == null ? {} : fromThoughtSignature(part.thoughtSignature);
  if (part.functionCall) {
    const { id, name, args } = part.functionCall;
    return [
      {
        type: "tool_call",
        id: calls.begin(name, id),
        name,
        arguments: JSON.stringify(args ?? {}),
        ...(seal.signature !== undefined && { signature: seal.signature }),
      },
    ];
  }
  if (part.text == null) throw unsupportedPart(part, at);
  if (part.thought) return [{ type: "reasoning", text: part.text, ...seal }];
  const said: OutputPart[] = part.text === "" ? [] : [{ type: "text", text: part.text }];
  // A signature on what was said seals what was thought for it.
  return Object.keys(seal).length === 0
    ? said
    : [...said, { type: "reasoning", text: "", ...seal }];
}

type FunctionResponse = NonNullable<Part["functionResponse"]>;

/** Google asks for an object, in which `output` and `error` stand for the whole. */
function readResult(answered: FunctionResponse, at: string, calls: CallIds): ToolResult {
  const { id, name, response, parts } = answered;
  const callId = calls.answer(name, id);
  if (callId === undefined) {
    throw new HubError(
      "invalid_value",
      `The function response of '${name.slice(0, 100)}' answers no function call before it.`,
      { param: `${at}.functionResponse` },
    );
  }
  const failed = response?.error != null;
  const said = failed ? response.error : onlyValue(response ?? {});
  const text = typeof said === "string" ? said : JSON.stringify(said);
  const media = (parts ?? []).map((part, index) => {
    const read = readMedia(part);
    if (read) return read;
    throw unsupportedPart(part, `${at}.functionResponse.parts[${index}]`);
  });
  return {
    callId,
    name,
    parts: [{ type: "text", text }, ...media],
    ...(failed && { isError: true }),
  };
}

function onlyValue(response: Readonly<Record<string, unknown>>): unknown {
  const [[name, value] = [], second] = Object.entries(response);
  return second === undefined && (name === "output" || name === "result") ? value : response;
}

/** Calls without an id get one, and a result without one answers the first open call of its name. */
class CallIds {
  readonly #open: { id: string; name: string }[] = [];
  readonly #known = new Set<string>();
  #count = 0;

  begin(name: string, given: string | null | undefined): string {
    const id = given || `call_${this.#count++}`;
    this.#open.push({ id, name });
    this.#known.add(id);
    return id;
  }

  answer(name: string, id: string | null | undefined): string | undefined {
    const index = this.#open.findIndex((call) => (id ? call.id === id : call.name === name));
    const [call] = index < 0 ? [] : this.#open.splice(index, 1);
    return call?.id ?? (id && this.#known.has(id) ? id : undefined);
  }
}

function unsupportedPart(part: object, at: string): HubError {
  const kind = Object.keys(part).find((name) => name !== "thought" && name !== "thoughtSignature");
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${at}' is a part of kind '${(kind ?? "none").slice(0, 100)}', and this model's provider takes none such.`,
    { param: at },
  );
}

/** Where the media type is not what others call the format. */
const audioFormats: ReadonlyMap<string, string> = new Map([
  ["mpeg", "mp3"],
  ["x-wav", "wav"],
]);
/** Uploaded to Google before, and to be had there only. */
const ownFiles = /^https:\/\/generativelanguage\.googleapis\.com\//;
