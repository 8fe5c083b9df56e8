/** Tools that take free text, for those that know functions alone: a function of one text, and its calls read back. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { AnswerEvent } from "./answer.ts";
import type { CanonicalRequest, FunctionTool, Tool, Turn } from "./request.ts";

/**
 * @returns the request with functions in their place, and their names
 * @throws HubError `unsupported_parameter` for a tool whose text has to follow a grammar, which a function's does not
 */
export function asFunctions(request: CanonicalRequest): {
  request: CanonicalRequest;
  names: ReadonlySet<string>;
} {
  const names = new Set(
    request.tools.flatMap((tool) => (tool.type === "custom" ? [tool.name] : [])),
  );
  const isCalled = request.turns.some(
    (turn) =>
      turn.role === "assistant" &&
      turn.parts.some((part) => part.type === "tool_call" && part.custom),
  );
  if (names.size === 0 && !isCalled) return { request, names };
  const tools = request.tools.map(toFunction);
  return { request: { ...request, tools, turns: request.turns.map(withCalls) }, names };
}

/** Gives the calls of such tools their own form again; what is not whole JSON stays as the model wrote it. */
export class FreeTextCalls {
  readonly #names: ReadonlySet<string>;
  /** Arguments so far, by choice and call. */
  readonly #open = new Map<string, { choice: number; call: number; text: string }>();

  constructor(names: ReadonlySet<string>) {
    this.#names = names;
  }

  read(events: readonly AnswerEvent[]): AnswerEvent[] {
    return this.#names.size === 0 ? [...events] : events.flatMap((event) => this.#read(event));
  }

  #read(event: AnswerEvent): AnswerEvent[] {
    switch (event.type) {
      case "tool_call": {
        if (!this.#names.has(event.name)) return [event];
        const { choice, call } = event;
        this.#open.set(`${choice} ${call}`, { choice, call, text: "" });
        return [{ ...event, custom: true }];
      }
      case "tool_arguments": {
        const open = this.#open.get(`${event.choice} ${event.call}`);
        if (!open) return [event];
        open.text += event.text;
        return [];
      }
      case "finish":
      case "end":
      case "error":
        return [...this.#close(), event];
      default:
        return [event];
    }
  }

  #close(): AnswerEvent[] {
    const open = [...this.#open.values()];
    this.#open.clear();
    return open.map(({ choice, call, text }) => ({
      type: "tool_arguments",
      choice,
      call,
      text: readInput(text),
    }));
  }
}

function toFunction(tool: Tool): Tool {
  if (tool.type !== "custom") return tool;
  const { name, description, format } = tool;
  const form = (format as { type?: unknown } | null | undefined)?.type ?? "text";
  if (form !== "text") {
    throw new HubError(
      "unsupported_parameter",
      `The tool '${name.slice(0, 100)}' takes text that follows a grammar, and this model's tools take JSON.`,
      { param: "tools" },
    );
  }
  return {
    type: "function",
    name,
    ...(description !== undefined && { description }),
    parameters: inputSchema,
  } satisfies FunctionTool;
}

function withCalls(turn: Turn): Turn {
  if (turn.role !== "assistant") return turn;
  const parts = turn.parts.map((part) => {
    if (part.type !== "tool_call" || !part.custom) return part;
    const { custom: _, ...call } = part;
    return { ...call, arguments: JSON.stringify({ input: part.arguments }) };
  });
  return { ...turn, parts };
}

function readInput(text: string): string {
  try {
    const { input } = JSON.parse(text) as { input?: unknown };
    return typeof input === "string" ? input : text;
  } catch {
    return text;
  }
}

const inputSchema = {
  type: "object",
  properties: { input: { type: "string", description: "What the tool is given, as it is." } },
  required: ["input"],
  additionalProperties: false,
};
