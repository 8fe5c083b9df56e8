/** Reads a whole answer: that it is one, and what it used. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { PassingAnswer } from "../format.ts";
import { readErrorEvent } from "./errors.ts";
import { type AnthropicMessage, anthropicMessage, type ContentBlock } from "./schema.ts";
import { readAnthropicUsage } from "./usage.ts";

/** @throws HubError `upstream_error` */
export function readPassingMessage(bytes: Uint8Array): PassingAnswer {
  const { usage, content } = parseMessage(bytes);
  const text = { toString: () => content.map(blockText).join("") };
  return { usage: readAnthropicUsage(usage), text };
}

/** @throws HubError `upstream_error`; an `error` with status 200 is no success */
export function parseMessage(bytes: Uint8Array): AnthropicMessage {
  const json = parseJson(bytes);
  const message = anthropicMessage.safeParse(json);
  if (message.success) return message.data;
  throw (
    readErrorEvent(json) ??
    new HubError("upstream_error", "The upstream's answer is none of Anthropic's messages.")
  );
}

function blockText({ type, text, thinking, input }: ContentBlock): string {
  return type === "tool_use" ? JSON.stringify(input ?? {}) : (text ?? thinking ?? "");
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"));
  } catch {
    return undefined;
  }
}
