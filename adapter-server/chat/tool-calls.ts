/** Turns what the model says into text and tool calls, choice by choice. */
import type { FinishReason } from "../../sdk/protocol/chat.ts";
import type { Piece } from "../generation/choices.ts";
import { ToolCallParser, type ToolEvent } from "../output/tools/tool-call-parser.ts";
import type { ToolPlan } from "./tools.ts";

/** What a choice gained of its calls: a new one, or more of the arguments of one. */
export type CallDelta =
  | { type: "call"; index: number; id: string; name: string }
  | { type: "arguments"; index: number; text: string };

export type ChatPiece = Omit<Piece, "finish"> & { calls?: CallDelta[]; finish?: FinishReason };

/** @param newId of a call */
export async function* readToolCalls(
  pieces: AsyncIterable<Piece>,
  plan: Pick<ToolPlan, "format" | "forced" | "named" | "callsMax">,
  newId: () => string,
): AsyncGenerator<ChatPiece, void, void> {
  const parsers = new Map<number, ToolCallParser>();
  for await (const { finish, ...piece } of pieces) {
    const parser = parsers.get(piece.choice) ?? new ToolCallParser(plan.format, plan);
    parsers.set(piece.choice, parser);
    const events = [...parser.push(piece.text), ...(finish === undefined ? [] : parser.flush())];
    const calls = events.flatMap((event) => toDelta(event, newId) ?? []);
    const text = events.map((event) => (event.type === "text" ? event.text : "")).join("");
    const called = parser.calls > 0 && !plan.named;
    yield {
      ...piece,
      text,
      ...(calls.length > 0 && { calls }),
      ...(finish !== undefined && { finish: finish === "stop" && called ? "tool_calls" : finish }),
    };
  }
}

function toDelta(event: ToolEvent, newId: () => string): CallDelta | undefined {
  if (event.type === "text") return undefined;
  return event.type === "call" ? { ...event, id: newId() } : event;
}
