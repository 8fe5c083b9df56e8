/** Calls and their results in a conversation's history, as chat templates know them. */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { ChatMessage } from "../../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { refuseDeep } from "../json-body.ts";
import type { TemplateMessage } from "../models/templates/chat-template.ts";

const toolCalls = z
  .array(
    z.looseObject({
      id: z.string().min(1).max(512),
      type: z.literal("function").default("function"),
      function: z.looseObject({ name: z.string().min(1).max(256), arguments: z.string() }),
    }),
  )
  .min(1)
  .max(128);

/** The calls that an assistant's message holds; templates take arguments as an object. */
export function callsOfMessage(
  message: ChatMessage,
  index: number,
): Pick<TemplateMessage, "tool_calls"> {
  const { tool_calls: given } = message;
  if (given === undefined || given === null || (Array.isArray(given) && given.length === 0))
    return {};
  if (message.role !== "assistant") {
    throw new HubError("invalid_value", "Only an assistant's message has 'tool_calls'.", {
      param: `messages[${index}].tool_calls`,
    });
  }
  const at = `messages[${index}].tool_calls`;
  const calls = parseOrThrow(z.object({ tool_calls: toolCalls }), message, `messages[${index}].`);
  return {
    tool_calls: calls.tool_calls.map((call, place) => ({
      id: idOf(call.id),
      type: "function" as const,
      function: {
        name: call.function.name,
        arguments: parsedArguments(call.function.arguments, `${at}[${place}].function.arguments`),
      },
    })),
  };
}

/**
 * Which call a tool's message answers.
 * @param called names of the functions that the messages before called, by the ids that templates get
 * @throws HubError unless one of them made it
 */
export function resultOfMessage(
  message: ChatMessage,
  index: number,
  called: ReadonlyMap<string, string>,
): Pick<TemplateMessage, "tool_call_id" | "name"> {
  if (message.role !== "tool") return {};
  const given = z.string().min(1).max(512).safeParse(message.tool_call_id);
  if (!given.success) {
    throw new HubError(
      "missing_required_parameter",
      `Missing required parameter: 'messages[${index}].tool_call_id'.`,
      { param: `messages[${index}].tool_call_id` },
    );
  }
  const id = idOf(given.data);
  const name = called.get(id);
  if (name === undefined) {
    throw new HubError(
      "invalid_value",
      "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
      { param: `messages[${index}].tool_call_id` },
    );
  }
  return { tool_call_id: id, name };
}

/** Nine letters and digits: Mistral's templates refuse others, and no model reads more into one. */
function idOf(id: string): string {
  return /^[a-zA-Z0-9]{9}$/.test(id)
    ? id
    : createHash("sha256").update(id).digest("hex").slice(0, 9);
}

function parsedArguments(source: string, param: string): Record<string, unknown> {
  if (source.trim() === "") return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(source);
  } catch {
    // Told below, as what parses to something else is.
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) {
    refuseDeep(parsed, param);
    return { ...parsed };
  }
  throw new HubError("invalid_value", `'${param}' is not the text of a JSON object.`, { param });
}
