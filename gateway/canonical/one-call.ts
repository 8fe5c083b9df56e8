/** `parallel_tool_calls: false`, kept also where an upstream does not heed it. */
import type { AnswerEvent } from "./answer.ts";

/** The events without any call of a choice but its first. */
export function withoutFurtherCalls(events: readonly AnswerEvent[]): AnswerEvent[] {
  return events.filter((event) => !("call" in event && event.call > 0));
}
