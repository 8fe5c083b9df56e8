/** A canonical conversation as Cohere's messages. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  FilePart,
  InputPart,
  OutputPart,
  TextPart,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import { openSeal } from "../../canonical/seal.ts";
import { imageUrl } from "../image-url.ts";

type Fields = Record<string, unknown>;

/** What is written down while a conversation is translated. */
export type Written = {
  dropped: Set<string>;
  /** Texts that came as files, which Cohere cites; absent where it takes none, so that they stand in the message. */
  documents: Fields[] | undefined;
};

/** Its only instructions are the first message; later ones go into the user's turn. */
export function writeMessages(
  { instructions, turns }: { instructions: readonly TextPart[]; turns: readonly Turn[] },
  written: Written,
): Fields[] {
  const messages: Fields[] = [];
  const above = joined(instructions, written);
  if (above !== "") messages.push({ role: "system", content: above });
  let shown: InputPart[] = [];
  const show = () => {
    if (shown.length > 0) messages.push({ role: "user", content: writeContent(shown, written) });
    shown = [];
  };
  for (const turn of turns) {
    if (turn.role !== "tool") show();
    switch (turn.role) {
      case "system":
        written.dropped.add("messages.system");
        messages.push({ role: "user", content: joined(turn.parts, written) });
        break;
      case "user":
        messages.push({ role: "user", content: writeContent(turn.parts, written) });
        break;
      case "assistant":
        messages.push(writeAssistant(turn.parts, written));
        break;
      case "tool":
        messages.push(writeResult(turn.result, written));
        // A tool's own message takes no pictures.
        for (const part of turn.result.parts) if (part.type !== "text") shown.push(part);
        break;
      default:
        turn satisfies never;
    }
  }
  show();
  return messages;
}

function writeContent(parts: readonly InputPart[], written: Written): string | Fields[] {
  if (parts.every((part) => part.type === "text")) return joined(parts, written);
  const blocks = parts.flatMap((part) => writeInput(part, written));
  return blocks.length > 0 ? blocks : "(see the documents)";
}

function writeInput(part: InputPart, written: Written): Fields[] {
  if ("cache" in part && part.cache) written.dropped.add("cache_control");
  switch (part.type) {
    case "text":
      return part.text === "" ? [] : [{ type: "text", text: part.text }];
    case "image": {
      const { detail } = part;
      return [{ type: "image_url", image_url: { url: imageUrl(part), ...(detail && { detail }) } }];
    }
    case "file":
      return writeFile(part, written);
    case "audio":
      throw unsupported("messages", "Audio is not supported with this model.");
    default:
      return part satisfies never;
  }
}

function writeFile({ source, name }: FilePart, { documents }: Written): Fields[] {
  if (source.type !== "base64" || !source.mediaType.startsWith("text/")) {
    const what =
      source.type === "base64" ? `of type '${source.mediaType.slice(0, 60)}'` : "by URL or id";
    throw unsupported(
      "messages",
      `A file ${what} is not supported with this model; send its text.`,
    );
  }
  const text = Buffer.from(source.data, "base64").toString("utf8");
  if (!documents) {
    return [{ type: "text", text: name === undefined ? text : `${name}\n\n${text}` }];
  }
  const data = { ...(name !== undefined && { title: name }), text };
  documents.push({ id: `doc-${documents.length}`, data });
  return [];
}

/** What it thought comes back to it as it told it: a plan before calls, or a thought. */
function writeAssistant(parts: readonly OutputPart[], { dropped }: Written): Fields {
  const content: Fields[] = [];
  const calls: Fields[] = [];
  let plan = "";
  for (const part of parts) {
    switch (part.type) {
      case "text":
      case "refusal":
        if (part.text !== "") content.push({ type: "text", text: part.text });
        break;
      case "reasoning": {
        const kind = openSeal("cohere", part.signature);
        if (kind === "plan") plan += part.text;
        else if (kind === "thinking") content.push({ type: "thinking", thinking: part.text });
        else dropped.add("messages.reasoning");
        break;
      }
      case "tool_call":
        calls.push({
          id: part.id,
          type: "function",
          function: { name: part.name, arguments: part.arguments || "{}" },
        });
        break;
      default:
        part satisfies never;
    }
  }
  return {
    role: "assistant",
    ...(content.length > 0 && { content }),
    ...(content.length === 0 && calls.length === 0 && { content: "" }),
    ...(plan !== "" && { tool_plan: plan }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function writeResult({ callId, parts, isError }: ToolResult, written: Written): Fields {
  const texts = parts.filter((part) => part.type === "text");
  const text = joined(texts, written) || "(nothing)";
  // There is no field that says so; the model has to be told all the same.
  return { role: "tool", tool_call_id: callId, content: isError ? `Error: ${text}` : text };
}

function joined(parts: readonly TextPart[], { dropped }: Written): string {
  if (parts.some(({ cache }) => cache)) dropped.add("cache_control");
  return parts.map(({ text }) => text).join("\n\n");
}

export function unsupported(param: string, message: string): HubError {
  return new HubError("unsupported_parameter", message, { param });
}
